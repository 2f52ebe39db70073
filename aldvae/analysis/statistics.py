"""Mean and standard deviation as tables show them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev


def mean(values: Sequence[float]) -> float | None:
    """Return the mean, to four decimals; None of nothing."""
    return round(fmean(values), 4) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """Return the standard deviation of a sample, to four decimals; None of fewer than two values."""
    return round(stdev(values), 4) if len(values) > 1 else None
