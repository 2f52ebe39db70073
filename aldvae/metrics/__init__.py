"""What is measured of a model: images to features, features to statistics, statistics to a value; and the latent space."""
