"""Datasets: those with a name and the user's own, loaded and split into training and validation samples."""
