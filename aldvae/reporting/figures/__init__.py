"""Figures, drawn from the tables and summaries of runs."""
