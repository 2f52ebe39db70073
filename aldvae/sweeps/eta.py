"""Estimates of how long runs take, from the epochs of similar runs."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from aldvae.config.run_config import RunConfig
from aldvae.runs.results import Result

# The settings that decide how long an epoch takes; the latent size hardly matters.
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


class EpochTimes:
    """Mean seconds of an epoch, over all runs whose epochs cost the same."""

    def __init__(self, results: Iterable[Result] = ()) -> None:
        """Start with the epochs of `results`."""
        # Seconds and number of epochs.
        self._totals: dict[tuple[object, ...], tuple[float, int]] = {}
        for result in results:
            if result.epochs:
                self.add(result.config, result.seconds, result.epochs)

    def add(self, config: RunConfig, seconds: float, epochs: int = 1) -> None:
        """Add `epochs` of a run, which took `seconds` in all."""
        total_seconds, total_epochs = self._totals.get(_key(config), (0.0, 0))
        self._totals[_key(config)] = (total_seconds + seconds, total_epochs + epochs)

    def remaining(self, config: RunConfig, epochs_done: int = 0) -> float | None:
        """Return the seconds until a run ends after `epochs_done`; None if no similar run was measured."""
        if _key(config) not in self._totals:
            return None
        seconds, epochs = self._totals[_key(config)]
        # The epochs of a curve come after those of the run, which pay for them on average.
        return max(0, config.training.epochs - epochs_done) * seconds / epochs


def _key(config: RunConfig) -> tuple[object, ...]:
    return tuple(config.settings[name] for name in _COSTS)


def estimate_wall_time(seconds: Sequence[float], slots: int) -> float:
    """Return how long runs of the given `seconds` take, `slots` at a time: at least as long as the longest."""
    return max(max(seconds, default=0.0), sum(seconds) / slots)
