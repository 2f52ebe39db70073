"""The precision of the numbers in CSV files."""

from __future__ import annotations


def round_for_csv(value: float) -> float:
    """Round `value` to 8 significant digits, the precision of our CSV files."""
    return float(f"{value:.8g}")
