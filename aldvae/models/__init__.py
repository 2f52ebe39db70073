"""The VAE, its networks, and the file a model is kept in."""
