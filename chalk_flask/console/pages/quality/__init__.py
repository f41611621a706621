"""Data quality: the number of records that each check found, with a link to the records."""
