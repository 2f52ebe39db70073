"""The rules of the paper and of its authors' code: they decide on the slopes of validation metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from statistics import fmean, linear_regression
from typing import Any, ClassVar

from aldvae.compression.rules.base import SMALLEST_DIM, Decision, RegisteredRule
from aldvae.utils.errors import ArgumentError, unknown_message

SLOW_DOWN = ("slope", "means")
STOPPING = ("always", "slow")
RULE_METRICS = ("recon_loss", "silhouette", "fid_recon", "fid_gen")


@dataclass(frozen=True)
class Observation:
    """One epoch: its number (from 1) and the metrics measured at its end."""

    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class SlopeState:
    """The state of `PaperRule`: the observations that its windows may still need, and whether it has slowed down."""

    history: tuple[Observation, ...] = ()
    slow: bool = False


@dataclass(frozen=True, kw_only=True)
class PaperRule(RegisteredRule[SlopeState]):
    """The rule of the paper's text (section 3.3, equations 4 and 5, Algorithm 1).

    Every `patience` epochs, it stops if the least-squares slope of every metric over the last `window` epochs is above
    its threshold. Otherwise it removes `step` neurons; it removes `slow_step` from the first decision on at which the
    slope of the Silhouette score over the last `slow_window` epochs is above zero. As long as a window is not full, its
    slope decides nothing and removal continues. It never goes below `min_dim`.

    `thresholds` maps each metric that takes part in the stop to the slope, in the metric's unit per epoch, that it must
    exceed; all of these metrics must be given at every measured epoch. Zero for all is the paper's rule. A higher one
    for the Silhouette score favours clustering; lower ones for the others stop before these get worse, and favour
    reconstruction; with ``-inf`` a metric never prevents the stop.

    Two arguments choose what the authors' code does instead (see `AuthorsRule`). `slow_down` ``"means"``: slow down if
    the mean Silhouette score over the last `slow_window` epochs is above that over the `slow_window` epochs before.
    `stopping` ``"slow"``: stop only after an earlier decision slowed the removal down, on slopes that leave out the
    newest epoch, over ``window - 1`` epochs.

    `patience`, `step` and `slow_step` are 1 or more; `window` (3 with `stopping` ``"slow"``), `slow_window` and
    `min_dim` 2 or more. Raises `ArgumentError` (a `ValueError`) for an argument out of range.
    """

    # A noisy slope may stop it at any size, so a stop at the initial size means nothing.
    limited_by_start: ClassVar[bool] = False

    patience: int = 5
    window: int = 20
    slow_window: int = 10
    step: int = 5
    slow_step: int = 1
    min_dim: int = SMALLEST_DIM
    thresholds: Mapping[str, float] = field(default_factory=lambda: dict.fromkeys(RULE_METRICS, 0.0))
    slow_down: str = "slope"
    stopping: str = "always"

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, choices in (("slow_down", SLOW_DOWN), ("stopping", STOPPING)):
            if getattr(self, name) not in choices:
                raise ArgumentError(name, unknown_message(getattr(self, name), list(choices)))
        smallest = {
            "patience": 1,
            # A slope needs two epochs; with `stopping` "slow" a third one is left out.
            "window": 2 + self.window - self.stop_window,
            "slow_window": 2,
            "step": 1,
            "slow_step": 1,
            "min_dim": SMALLEST_DIM,
        }
        for name, value in smallest.items():
            if getattr(self, name) < value:
                raise ArgumentError(name, f"must be {value} or more, not {getattr(self, name)}")
        for metric, threshold in self.thresholds.items():
            if math.isnan(threshold):
                raise ArgumentError("thresholds", f"must hold a number for {metric}, not nan")

    @property
    def stop_window(self) -> int:
        """The number of epochs behind the slopes that stop."""
        return self.window - 1 if self.stopping == "slow" else self.window

    @property
    def required_metrics(self) -> tuple[str, ...]:
        """The metrics of `thresholds`."""
        return tuple(self.thresholds)

    @property
    def min_epochs(self) -> int:
        """The epochs of a full window."""
        return self.window

    @property
    def shortest_window(self) -> int:
        """The shorter one of the windows that stop and slow down."""
        return min(self.stop_window, self.slow_window)

    def init(self) -> SlopeState:
        """Return the state before the first epoch."""
        return SlopeState()

    def restore(self, stored: Mapping[str, Any]) -> SlopeState:
        """Return the state of which `dataclasses.asdict` made `stored`."""
        return SlopeState(tuple(Observation(**observation) for observation in stored["history"]), stored["slow"])

    def adapt(
        self,
        state: SlopeState,
        epoch: int,
        latent_dim: int,
        metrics: Mapping[str, float],
        kl: Sequence[float] | None = None,  # noqa: ARG002 - other rules use it
    ) -> tuple[SlopeState, Decision | None]:
        """Take in one epoch; decide at every `patience`-th. See `Rule.adapt`.

        Raises `KeyError` if only some of the metrics of `thresholds` are given, and `ValueError` for NaN.
        """
        used = {name: float(metrics[name]) for name in {**self.thresholds, "silhouette": 0} if name in metrics}
        if invalid := [name for name, value in used.items() if math.isnan(value)]:
            raise ValueError(f"epoch {epoch}: {invalid[0]} is nan, so its slope cannot be computed")
        if metrics and (missing := set(self.thresholds) - set(used)):
            raise KeyError(
                f"the rule decides on {', '.join(self.thresholds)}, but was not given {', '.join(sorted(missing))}; "
                "give it, or leave it out of the rule's thresholds"
            )
        if used:
            oldest = epoch - max(self.window, 2 * self.slow_window)
            kept = tuple(observation for observation in state.history if observation.epoch > oldest)
            state = replace(state, history=(*kept, Observation(epoch, used)))
        if epoch % self.patience:
            return state, None
        return self._decide(state, epoch, latent_dim)

    def _decide(self, state: SlopeState, epoch: int, latent_dim: int) -> tuple[SlopeState, Decision]:
        last = epoch - (self.window - self.stop_window)
        slopes = {
            name: value
            for name in self.thresholds
            if (value := slope(state.history, name, last, self.stop_window)) is not None
        }
        above = len(slopes) == len(self.thresholds) and all(slopes[m] > t for m, t in self.thresholds.items())
        stop = above and (state.slow or self.stopping == "always")
        change = slope if self.slow_down == "slope" else rise
        trend = change(state.history, "silhouette", epoch, self.slow_window)
        slowed = not stop and not state.slow and trend is not None and trend > 0
        state = replace(state, slow=state.slow or slowed)
        remove = min(self.slow_step if state.slow else self.step, max(latent_dim - self.min_dim, 0))
        reason = self._reason(stop, slowed, remove, slopes, trend)
        now, if_continuing = (0, remove) if stop else (remove, 0)
        decision = Decision(epoch, latent_dim, now, stop, if_continuing, slowed=slowed, slopes=slopes, reason=reason)
        return state, decision

    def _reason(self, stop: bool, slowed: bool, remove: int, slopes: Mapping[str, float], trend: float | None) -> str:
        if stop:
            names = ", ".join(self.thresholds)
            return f"the slopes of {names} over {self.stop_window} epochs are above their thresholds"
        if remove == 0:
            return f"at the smallest size, {self.min_dim}"
        if slowed:
            by = f"{trend:.3g} an epoch" if self.slow_down == "slope" else f"{trend:.3g} on average"
            return f"the Silhouette score rises by {by} over {self.slow_window}: one step is {remove}"
        if len(slopes) < len(self.thresholds):
            return f"fewer than {self.window} epochs so far"
        below = [name for name, threshold in self.thresholds.items() if slopes[name] <= threshold]
        return f"not above threshold: {', '.join(below)}" if below else "above all thresholds, but not yet slowed down"


@dataclass(frozen=True, kw_only=True)
class AuthorsRule(PaperRule):
    """The rule of the code that the paper's authors published, which differs from their text; see `PaperRule`."""

    slow_down: str = "means"
    stopping: str = "slow"


def slope(history: tuple[Observation, ...], metric: str, epoch: int, window: int) -> float | None:
    """Return the least-squares slope (equation 5) of `metric` per epoch over the `window` epochs up to `epoch`.

    None before epoch `window`, and if the metric was measured at fewer than two of these epochs. The slope is per
    epoch, not per measurement.
    """
    if epoch < window:
        return None
    recent = _measured(history, metric, epoch, window)
    return linear_regression(list(recent), list(recent.values())).slope if len(recent) > 1 else None


def rise(history: tuple[Observation, ...], metric: str, epoch: int, window: int) -> float | None:
    """Return the mean of `metric` over the `window` epochs up to `epoch`, minus that over the `window` epochs before.

    None before epoch ``2 * window``, and if the metric was not measured in one of the two windows.
    """
    if epoch < 2 * window:
        return None
    new, old = (_measured(history, metric, last, window).values() for last in (epoch, epoch - window))
    return fmean(new) - fmean(old) if new and old else None


def _measured(history: tuple[Observation, ...], metric: str, epoch: int, window: int) -> dict[int, float]:
    recent = (observation for observation in history if epoch - window < observation.epoch <= epoch)
    return {observation.epoch: observation.metrics[metric] for observation in recent if metric in observation.metrics}
