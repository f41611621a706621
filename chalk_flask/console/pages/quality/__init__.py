"""Data quality: counts of records that need attention, each with a link to its records."""
