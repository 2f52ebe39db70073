"""Pictures of results, drawn from tables, summaries and pictures that runs left; never from checkpoints or models."""
