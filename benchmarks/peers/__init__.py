"""Other ways to choose a latent size, run on the problems of the benchmark, and the table that compares them all."""
