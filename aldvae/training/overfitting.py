"""Did the loss on the samples held out rise again? Then the model learns single samples by heart."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import pairwise
from statistics import fmean, pstdev

# Losses are averaged over this part of the epochs.
_WINDOW = 0.05
# The rise must be this part of the descent before it, and so many standard errors of an average. In the benchmark it is
# 0.12 and 96 at least for 200 rows of 500 columns, 0.02 to 0.06 and 2 to 7 for a table of 569 rows, and at most 0.03
# and 2.5 for all others.
_PART, _ERRORS = 0.05, 5.0


def overfit_since(losses: Mapping[int, float]) -> int | None:
    """Return the epoch at which the loss was lowest; None if it did not clearly rise again.

    `losses` are those of the epochs at which it was measured, in their order. The lowest and the last loss are averages
    over a twentieth of these epochs; the epoch returned is the middle one of the lowest average.
    """
    values, epochs = list(losses.values()), list(losses)
    width = max(1, round(_WINDOW * len(values)))
    averages = [fmean(values[i : i + width]) for i in range(len(values) - width + 1)]
    lowest = min(range(len(averages)), key=averages.__getitem__)
    rise, descent = averages[-1] - averages[lowest], averages[0] - averages[lowest]
    # The noise shows in differences between neighbours, the trend hardly does.
    noise = pstdev([b - a for a, b in pairwise(values[lowest:])] or [0.0]) / 2**0.5
    error = noise * (2 / width) ** 0.5
    is_clear = descent > 0 and rise > max(_PART * descent, _ERRORS * error)
    return epochs[lowest + width // 2] if is_clear else None
