"""The VAE, its networks, likelihoods and posteriors, and the model file."""
