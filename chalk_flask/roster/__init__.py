"""What happens to a roster: packages are read, compared with what is stored, and written through one door."""
