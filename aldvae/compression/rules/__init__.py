"""Rules: when to remove latent neurons, how many, and when to stop."""
