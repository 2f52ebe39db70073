"""How long runs take, told from rows already measured."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from aldvae.config.run_config import RunConfig
from aldvae.runs.results import Result

# What decides how long an epoch takes; its latent size hardly does.
_COSTS = (
    "dataset",
    "source",
    "limit",
    "validation",
    "resize",
    "network",
    "hidden_dim",
    "channels",
    "batch_size",
    "precision",
    "fid_features",
    "fid_samples",
    "fid_precision",
    "metrics_every",
)


class Pace:
    """Mean seconds of an epoch, over all runs that cost the same."""

    def __init__(self, results: Iterable[Result] = ()) -> None:
        """Begin with the rows that `results` have measured."""
        self._measured: dict[Any, tuple[float, int]] = {}
        for result in results:
            if result.epochs:
                self.add(result.config, result.seconds, result.epochs)

    def add(self, config: RunConfig, seconds: float, epochs: int = 1) -> None:
        """Take in that `epochs` of a run took `seconds`."""
        before = self._measured.get(_key(config), (0.0, 0))
        self._measured[_key(config)] = (before[0] + seconds, before[1] + epochs)

    def left(self, config: RunConfig, done: int = 0) -> float | None:
        """Return the seconds that a run of which `done` epochs are done still takes; None where nothing tells."""
        if _key(config) not in self._measured:
            return None
        seconds, epochs = self._measured[_key(config)]
        return (config.epochs - done) * seconds / epochs


def _key(config: RunConfig) -> tuple[Any, ...]:
    return tuple(getattr(config, name) for name in _COSTS)


def together(seconds: Sequence[float], slots: int) -> float:
    """Return how long runs of so many `seconds` take, `slots` at a time: never less than the longest."""
    return max(max(seconds, default=0.0), sum(seconds) / slots)
