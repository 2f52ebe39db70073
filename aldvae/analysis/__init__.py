"""What finished runs say: series over seeds, grid searches, comparisons, tables."""
