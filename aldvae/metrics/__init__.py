"""What is measured of a model: images to features, to statistics, to a distance; and the latent space."""
