"""A run on disk: its directory, what is read back from it, and how it came about."""
