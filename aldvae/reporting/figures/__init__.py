"""Figures, drawn from the tables and summaries that runs left."""
