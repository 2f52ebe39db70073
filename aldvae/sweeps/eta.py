"""Estimates of how long runs take, from the epochs of similar runs or, before there are any, from a few steps."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch

from aldvae.config.run_config import RunConfig
from aldvae.runs.results import Result
from aldvae.training.rehearsal import rehearse_epoch

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
# A curve makes a run at most so many times as long.
_LONGEST_CURVE = 1.5


class EpochTimes:
    """Mean seconds of an epoch, over all runs whose epochs cost the same."""

    def __init__(self, results: Iterable[Result] = ()) -> None:
        """Start with the epochs of `results`."""
        # Seconds and number of epochs.
        self._totals: dict[tuple[object, ...], tuple[float, int]] = {}
        self._rehearsed: dict[tuple[object, ...], float | None] = {}
        for result in results:
            if result.epochs:
                self.add(result.config, result.seconds, result.epochs)

    def add(self, config: RunConfig, seconds: float, epochs: int = 1) -> None:
        """Add `epochs` of a run, which took `seconds` in all."""
        total_seconds, total_epochs = self._totals.get(_key(config), (0.0, 0))
        self._totals[_key(config)] = (total_seconds + seconds, total_epochs + epochs)

    def rehearse(self, config: RunConfig, device: torch.device) -> None:
        """Time a few training steps of a run on `device`, unless similar ones were measured or rehearsed."""
        if _key(config) not in {**self._totals, **self._rehearsed}:
            self._rehearsed[_key(config)] = rehearse_epoch(config, device)

    def is_measured(self, config: RunConfig) -> bool:
        """Return whether a similar run was measured."""
        return _key(config) in self._totals

    def remaining(self, config: RunConfig, epochs_done: int = 0) -> float | None:
        """Return the seconds until a run ends after `epochs_done`; None if no similar run was measured or rehearsed."""
        left = max(0, config.training.epochs - epochs_done)
        if _key(config) in self._totals:
            # The epochs of a curve come after those of the run, which pay for them on average.
            seconds, epochs = self._totals[_key(config)]
            return left * seconds / epochs
        step_by_step = self._rehearsed.get(_key(config))
        has_curve = config.compression is not None and config.compression.curve
        return None if step_by_step is None else step_by_step * left * (_LONGEST_CURVE if has_curve else 1)


def _key(config: RunConfig) -> tuple[object, ...]:
    return tuple(config.settings[name] for name in _COSTS)


def estimate_wall_time(seconds: Sequence[float], slots: int) -> float:
    """Return how long runs of the given `seconds` take, `slots` at a time: at least as long as the longest."""
    return max(max(seconds, default=0.0), sum(seconds) / slots)
