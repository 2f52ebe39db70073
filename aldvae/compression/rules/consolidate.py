"""The recommended rule: consolidate the latent space, count its informative directions, wait while they change.

A start that is too large spreads one factor over several dimensions, all of which then carry information; how many
factors there are shows in the principal directions of the posterior means (`compression.consolidation`). So the rule
counts directions. It knows the budget, `epochs`, and all its times are fractions of it, whether an epoch has 7 steps or
800. It decides nothing about the answer while the weight of the KL divergence rises, or the model has hardly begun to
learn; it keeps spares for what the rest of the training may still use, more of them while the count is unsettled; and
it adds dimensions where all that there are carry information.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import ceil, isnan
from typing import Any, ClassVar, Self

from aldvae.compression.rules.base import SMALLEST_DIM, Decision, RegisteredRule
from aldvae.compression.rules.limits import informative_above
from aldvae.compression.rules.spectrum import Outlook, Spectrum, extrapolate_spectrum
from aldvae.utils.errors import ArgumentError

# Fractions of the budget. The model has hardly begun to learn in the first; a count that has not changed over the
# second has settled; decisions come once in the second until the third is over, counted from the end of the warm-up,
# then half as often; nothing is left idle after the last.
_LEARNING, _SPAN, _FREQUENT, _LAST = 0.1, 0.05, 0.2, 0.9
# The posterior is measured at most about so many times: more would cost time and show no more.
_MEASUREMENTS = 100
# Parts of the warm-up after which a start that is too small may grow; after the last, one that is too large may shrink.
_EARLY = (0.25, 0.5)
# The information of all directions together grows by at most this fraction over a span once it has settled.
_STEADY = 0.05
# Spares while the count is unsettled, and the smallest size then and until the last fraction of the budget: training
# makes dimensions informative one by one, in dimensions that are there, often out of what is first a copy. On gray
# images, 8 directions were counted for half of the training, and 12 at its end; on EuroSAT 3 and 9.
_SPARES, _ROOMY, _ROOMY_UNTIL = 8, 16, 0.6


@dataclass(frozen=True)
class ConsolidatingState:
    """The state of `ConsolidatingRule`.

    `window` holds the measurements of the last span, `start` the epoch at which the warm-up was over (0: not yet).
    `n_informative` is the answer so far, held since the epoch `since`; it had settled at `settled` (0: it has not).
    `early` counts the checks made during the warm-up.
    """

    window: tuple[Spectrum, ...] = ()
    start: int = 0
    early: int = 0
    n_informative: int = 0
    since: int = 0
    settled: int = 0


@dataclass(frozen=True, kw_only=True)
class ConsolidatingRule(RegisteredRule[ConsolidatingState]):
    """Rewrites the latent space in its principal directions, and keeps those that carry information, and spares.

    `epochs` is the budget and must be given, here or to `Compressor`. `beta` is the full weight of the KL divergence in
    the training loss. During the first `warmup` of the epochs the weight is assumed to rise linearly to it; a loop with
    another warm-up gives the present weight as the metric ``beta``. Never goes below `min_dim`.

    `min_dim` is 2 or more, `beta` above 0, `warmup` from 0 to below 1. Raises `ArgumentError` (a `ValueError`) for an
    argument out of range.
    """

    default_select: ClassVar[str] = "kl"
    supports_any_select: ClassVar[bool] = False
    # What is removed at the stop is idle; there is no next size to remove.
    supports_no_stop: ClassVar[bool] = False
    consolidates: ClassVar[bool] = True
    # It grows where the start is too small.
    limited_by_start: ClassVar[bool] = False

    beta: float = 1.0
    min_dim: int = SMALLEST_DIM
    epochs: int | None = None
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        if self.min_dim < SMALLEST_DIM:
            raise ArgumentError("min_dim", f"must be {SMALLEST_DIM} or more, not {self.min_dim}")
        if not 0 <= self.warmup < 1:
            raise ArgumentError("warmup", f"must be 0 or more and less than 1, not {self.warmup:g}")
        if not self.beta > 0:
            raise ArgumentError(
                "beta", f"must be above 0 for the consolidate rule, not {self.beta}: nothing else falls idle"
            )

    @property
    def required_metrics(self) -> tuple[str, ...]:
        """None: it needs the posterior alone."""
        return ()

    @property
    def min_epochs(self) -> int:
        """The epochs in which the warm-up, a few spans and the training after the last removal have a place."""
        return 10

    @property
    def shortest_window(self) -> None:
        """None: it takes no trend over a window of epochs."""

    def with_epochs(self, epochs: int) -> Self:
        """Return the rule for a training of `epochs` epochs, unless it was made for another number."""
        return self if self.epochs is not None else replace(self, epochs=epochs)

    @property
    def _budget(self) -> int:
        if self.epochs is None:
            raise ArgumentError("epochs", "must be given: the consolidate rule divides them up")
        return self.epochs

    @property
    def _interval(self) -> int:
        """The epochs between two measurements."""
        return max(1, round(self._budget / _MEASUREMENTS))

    @property
    def _span(self) -> int:
        return self._interval * max(2, round(_SPAN * self._budget / self._interval))

    def is_due(self, epoch: int) -> bool:
        """Return whether the posterior is measured at the end of `epoch`."""
        return epoch % self._interval == 0

    def init(self) -> ConsolidatingState:
        """Return the state before the first epoch; raises `ArgumentError` if `epochs` is unknown."""
        _ = self._budget
        return ConsolidatingState()

    def restore(self, stored: Mapping[str, Any]) -> ConsolidatingState:
        """Return the state of which `dataclasses.asdict` made `stored`."""
        window = tuple(Spectrum(**{**past, "values": tuple(past["values"])}) for past in stored["window"])
        return ConsolidatingState(**{**stored, "window": window})

    def adapt(
        self,
        state: ConsolidatingState,
        epoch: int,
        latent_dim: int,  # noqa: ARG002 - it has as many directions
        metrics: Mapping[str, float],
        kl: Sequence[float] | None = None,
    ) -> tuple[ConsolidatingState, Decision | None]:
        """Take in one epoch; see `Rule.adapt` and `Rule.consolidates`. Only epochs that are due count.

        Raises `KeyError` if the posterior is missing when it is due, and `ValueError` for NaN.
        """
        if not self.is_due(epoch) or epoch >= self._budget:
            return state, None
        if kl is None:
            raise KeyError(f"the consolidate rule needs mu and log_var at epoch {epoch}")
        if any(isnan(value) for value in kl):
            raise ValueError(f"the information of a direction is nan at epoch {epoch}")
        now = Spectrum(epoch, tuple(sorted(kl, reverse=True)), int(metrics.get("copies", 0)))
        phase = self._phase(epoch, metrics)
        if not state.start and phase < 1:
            return self._early(state, now, list(kl), phase)
        return self._decide(self._record(state, now), now, list(kl))

    def _phase(self, epoch: int, metrics: Mapping[str, float]) -> float:
        """Return how far the warm-up is, 1 when it is over and the model has begun to learn."""
        fraction = epoch / self._budget
        ramp = fraction / self.warmup if self.warmup else 1.0
        weight = metrics["beta"] / self.beta if "beta" in metrics else ramp
        return min(weight + 1e-9, fraction / _LEARNING + 1e-9)

    def _early(
        self, state: ConsolidatingState, now: Spectrum, kl: list[float], phase: float
    ) -> tuple[ConsolidatingState, Decision | None]:
        """Correct a start that is far too large or too small while the warm-up is under way."""
        passed = sum(phase >= part for part in _EARLY)
        if passed == state.early:
            return state, None
        state = replace(state, early=passed)
        n, size = self._count(now), len(kl)
        if self._is_full(n, size):
            grow = 2 * n + _SPARES - size
            return state, self._decision(now, kl, size, grow, f"{n} of {size} carry information: more are added")
        if passed < len(_EARLY) or n == 0:
            return state, None
        # Also where nothing is removed: what was learned in few directions goes on better than in copies.
        keep = min(size, max(_ROOMY, self.min_dim, 2 * n + _SPARES))
        return state, self._decision(now, kl, keep, 0, f"{n} of {size} carry information, early in the warm-up")

    def _record(self, state: ConsolidatingState, now: Spectrum) -> ConsolidatingState:
        """Take `now` into the window, and judge whether the answer has settled."""
        start = state.start or now.epoch
        window = tuple(past for past in (*state.window, now) if past.epoch >= now.epoch - self._span)
        outlook = self._outlook(window)
        n, same = outlook.n_informative, outlook.n_informative == state.n_informative
        since = state.since if same else now.epoch
        calm = window[0].epoch <= now.epoch - self._span and outlook.rising == 0 and outlook.growth <= _STEADY
        settled = state.settled if same else 0
        if calm and n and since <= now.epoch - self._span and not settled:
            settled = now.epoch
        return replace(state, window=window, start=start, n_informative=n, since=since, settled=settled)

    def _decide(
        self, state: ConsolidatingState, now: Spectrum, kl: list[float]
    ) -> tuple[ConsolidatingState, Decision | None]:
        n, size, epoch = state.n_informative, len(kl), now.epoch
        is_last = epoch >= min(ceil(_LAST * self._budget), self._last_due)
        frequent = epoch <= state.start + _FREQUENT * self._budget
        every = self._span if frequent else 2 * self._span
        if not is_last and ((epoch - state.start) % every or self._count(now) == 0):
            return state, None
        outlook = self._outlook(state.window)
        reason = f"{n} informative, {outlook.rising} rising, {outlook.falling} falling, total {outlook.growth:+.1%}"
        if is_last:
            keep = min(size, max(self.min_dim, n))
            reason += f"; settled at epoch {state.settled}" if state.settled else "; not settled: train for more epochs"
            return state, replace(self._decision(now, kl, keep, 0, reason), stop=True, **self._answer(state, now))
        if frequent and self._is_full(n + outlook.rising, size):
            return state, self._decision(now, kl, size, max(0, n + _SPARES - size), reason)
        early = epoch + self._span <= state.start + _FREQUENT * self._budget
        keep = self._room(state, outlook, epoch, early)
        return state, replace(self._decision(now, kl, min(keep, size), 0, reason), **self._answer(state, now))

    def _room(self, state: ConsolidatingState, outlook: Outlook, epoch: int, early: bool) -> int:
        """Return the size that leaves room for what the rest of the training may use."""
        n = state.n_informative
        is_late = epoch > _ROOMY_UNTIL * self._budget
        if is_late and state.settled and all(past.copies for past in state.window):
            return max(self.min_dim, n)  # Spares become copies here, which cost quality.
        spares = _SPARES + n if early and not state.settled else max(2, ceil(n / 2))
        room = n + outlook.rising + spares
        return max(self.min_dim, room if is_late and state.settled else max(_ROOMY, room))

    @property
    def _last_due(self) -> int:
        """The last epoch that is due and has training after it."""
        return (self._budget - 1) // self._interval * self._interval

    def _decision(self, now: Spectrum, kl: list[float], keep: int, grow: int, reason: str) -> Decision:
        strongest = sorted(range(len(kl)), key=lambda j: -kl[j])[:keep]
        return Decision(now.epoch, len(kl), reason=reason, keep=tuple(sorted(strongest)), grow=grow)

    def _answer(self, state: ConsolidatingState, now: Spectrum) -> dict[str, Any]:
        """Return the answer so far, and the range that holds if the limit is half or twice as high."""
        limits = (2 * self._high, self._high / 2)
        few, many = (sum(value >= limit for value in now.values) for limit in limits)
        n = state.n_informative
        return {"n_informative": n, "n_range": (min(few, n), max(many, n)), "settled_epoch": state.settled or None}

    @property
    def _high(self) -> float:
        return informative_above(self.beta)

    def _count(self, now: Spectrum) -> int:
        return sum(value >= self._high for value in now.values)

    @staticmethod
    def _is_full(n: int, size: int) -> bool:
        """Return whether hardly a dimension is left for what training may still find."""
        return n >= size - max(1, size // 8)

    def _outlook(self, window: tuple[Spectrum, ...]) -> Outlook:
        return extrapolate_spectrum(window, self._budget, self.beta)
