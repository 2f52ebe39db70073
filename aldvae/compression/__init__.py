"""Adaptive compression of any VAE's latent space; knows neither data nor metrics nor our own VAE."""
