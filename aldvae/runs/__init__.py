"""A run on disk: the directory that is written, the results that are read back, and their provenance."""
