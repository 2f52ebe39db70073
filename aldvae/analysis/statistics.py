"""Mean and standard deviation, rounded as tables show them."""

from __future__ import annotations

from collections.abc import Sequence
from statistics import fmean, stdev


def mean(values: Sequence[float]) -> float | None:
    """Return the mean to four decimals; None if there are no values."""
    return round(fmean(values), 4) if values else None


def deviation(values: Sequence[float]) -> float | None:
    """Return the sample standard deviation to four decimals; None for fewer than two values."""
    return round(stdev(values), 4) if len(values) > 1 else None
