"""Adaptive compression of the latent space of any VAE; independent of data, metrics and the VAE of this project."""
