"""Helpers that every other folder may import: errors, files, random streams, devices."""
