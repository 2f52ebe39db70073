"""Datasets: the built-in ones and the user's own, loaded and split into training and validation samples."""
