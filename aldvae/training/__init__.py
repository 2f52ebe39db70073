"""One run: training, metrics, compression, checkpoints."""
