"""Finished runs compared: series over seeds, grid searches, ablations, methods, tables."""
