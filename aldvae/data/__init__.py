"""Datasets by name or of the user's own, loaded and split."""
