"""The information of all directions over time, and what it becomes by the end of training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import exp, log, sqrt
from typing import NamedTuple

from aldvae.compression.rules.limits import WEAK, informative_above


@dataclass(frozen=True)
class Spectrum:
    """The information of their own of the directions at the end of `epoch` (nats, largest first), and the `copies`."""

    epoch: int
    values: tuple[float, ...]
    copies: int = 0


class Outlook(NamedTuple):
    """What the directions become if each goes on as over the window: so many informative, rising to it, falling."""

    n_informative: int
    rising: int
    falling: int
    growth: float


def extrapolate_spectrum(window: Sequence[Spectrum], epochs: int, beta: float) -> Outlook:
    """Return the outlook for the last of `epochs` epochs, from the spectra of a `window`, oldest first.

    A direction is extrapolated if it has risen or fallen steadily over the window. `beta` sets what is informative.
    """
    first, now, high = window[0], window[-1], informative_above(beta)
    spans = (epochs - now.epoch) / max(1, now.epoch - first.epoch)
    n = rising = falling = 0
    for rank, value in enumerate(now.values):
        past = [spectrum.values[rank] for spectrum in window if rank < len(spectrum.values)]
        then = _extrapolate(past, spans)
        if value >= high:
            falls = then < high and value < 2 * high
            falling, n = falling + falls, n + (not falls)
        elif value >= WEAK / sqrt(beta) and then >= high:
            rising += 1
    total, before = sum(now.values), sum(first.values)
    return Outlook(n, rising, falling, total / max(before, 1e-9) - 1)


def _extrapolate(past: Sequence[float], spans: float) -> float:
    """Return what the last of `past` becomes after as many `spans`, log-linearly, if its course was monotone."""
    logs = [log(max(value, 1e-9)) for value in past]
    pairs = list(pairwise(logs))
    steady = all(b >= a for a, b in pairs) or all(b <= a for a, b in pairs)
    change = spans * (logs[-1] - logs[0]) if len(past) > 2 and steady else 0.0
    return exp(min(logs[-1] + change, 50.0))
