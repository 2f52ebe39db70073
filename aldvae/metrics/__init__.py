"""Metrics of a model: Fréchet distances (images to features to statistics to value), clusters, latent dimensions."""
