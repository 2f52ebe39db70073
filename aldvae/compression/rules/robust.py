"""A rule that needs no labels and no Fréchet distances: it removes idle dimensions at once, and others on trial.

There are two kinds of models, and each kind needs evidence of its own.

*A model that switches dimensions off.* With a Gaussian posterior, a dimension that does not improve the objective falls
back to the prior. Its KL divergence goes to zero, and removing it costs nothing. In a linear VAE a dimension of KL
divergence k improves the objective by ``beta (exp(2 k) - 1 - 2 k) / 2`` nats, about ``beta k^2`` for a small k. So
dimensions worth less than 0.01 nats, k below ``0.1 / sqrt(beta)``, are idle; the others are informative. Idle
dimensions are removed at once, except for some spares, because training makes dimensions informative one after another.
When the number of informative dimensions and their total KL divergence have settled, the answer is that number and a
tenth, rounded up. The tenth leaves room for a dimension that becomes informative late, and costs nothing.

*A model that uses every dimension it has* (a softmax posterior, a nearly deterministic decoder, an initial size that is
too small). There the KL divergence does not show what can be removed. A third of the dimensions is removed on trial. If
the loss then ends above its extrapolation by more than its noise, the removal is undone and a smaller one is tried:
bisection. A larger step would be faster, but could jump over the best size to one as bad as the one it started from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil, isnan
from statistics import median
from typing import Any, ClassVar, Self

from aldvae.compression.rules.base import SMALLEST_DIM, Decision, RegisteredRule
from aldvae.utils.errors import ArgumentError

# A dimension that improves the objective by less than this (nats) is idle.
IDLE_WORTH = 0.01
# The size is sought to within this fraction of it.
TOLERANCE = 0.1
# The number of decisions in a row that must agree on the size, and how much the total KL divergence may change
# between the first and the last of them, as a fraction.
_AGREEING = 4
_STEADY = 0.03
# Spares that are kept: this many for each informative dimension, and two more.
_SPARES = 0.5
# The loss is extrapolated from at most so many measured epochs, and no trial starts with fewer than the second number.
_MOST_MEASUREMENTS, _FEWEST_MEASUREMENTS = 7, 5
# The largest fraction of the dimensions that is removed on trial at once.
_LARGEST_STEP = 1 / 3
# The median absolute deviation of normal numbers times this is their standard deviation.
_DEVIATIONS = 1.4826
# A removal is undone if it costs more than so many standard deviations of the noise.
_STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Measurement:
    """One measured epoch.

    `age` is the number of epochs that trained the weights, without the rejected ones. `loss` is the negative ELBO
    (nats per sample, the KL divergence weighted by beta), `n_informative` the number of dimensions that are not idle,
    `rate` the KL divergence of all dimensions together (nats).
    """

    age: int
    loss: float
    n_informative: int
    rate: float


@dataclass(frozen=True)
class RobustState:
    """The state of `RobustRule`.

    `history` holds the last measurements of the present weights, oldest first. `rejected_epochs` counts the epochs that
    were trained after removals that were undone. `before_trial` is the size before the removal on trial, 0 if there is
    none. `too_small` is the largest size that failed. `self_pruning` says that the model has left dimensions idle.
    """

    history: tuple[Measurement, ...] = ()
    rejected_epochs: int = 0
    before_trial: int = 0
    too_small: int = 0
    self_pruning: bool = False


# Field names in checkpoints of version 0.1.0.
_OLD_NAMES = {"paying": "n_informative", "wasted": "rejected_epochs", "prunes": "self_pruning"}


@dataclass(frozen=True, kw_only=True)
class RobustRule(RegisteredRule[RobustState]):
    """Removes idle dimensions at once and others on trial; stops when the size has settled.

    Decides every `patience` epochs, which is also how long a trial lasts. `beta` is the weight of the KL divergence in
    the training loss. Needs ``recon_loss`` and `kl` at every epoch, or only at some that include every `patience`-th.
    Both are in nats per sample: ``recon_loss`` is summed, not averaged, over the values of a sample. Removes the
    dimensions of lowest KL divergence, and never goes below `min_dim`. If the number of all `epochs` is given, no trial
    starts too late to be judged, and nothing is decided during a warm-up: the first `warmup` of them, in which the
    weight of the KL divergence rises and more dimensions look informative than will be.

    `patience` is 1 or more, `min_dim` 2 or more, `beta` above 0, `warmup` from 0 to below 1. Raises `ArgumentError` (a
    `ValueError`) for an argument out of range.
    """

    # It removes as many neurons as there are idle dimensions, so it must remove those.
    default_select: ClassVar[str] = "kl"
    supports_any_select: ClassVar[bool] = False
    # Its stop means that no smaller size is good enough.
    supports_no_stop: ClassVar[bool] = False
    can_undo: ClassVar[bool] = True
    limited_by_start: ClassVar[bool] = True

    patience: int = 3
    beta: float = 1.0
    min_dim: int = SMALLEST_DIM
    epochs: int | None = None
    warmup: float = 0.0

    def __post_init__(self) -> None:
        """Check the arguments."""
        for name, smallest in (("patience", 1), ("min_dim", SMALLEST_DIM)):
            if getattr(self, name) < smallest:
                raise ArgumentError(name, f"must be {smallest} or more, not {getattr(self, name)}")
        if not 0 <= self.warmup < 1:
            raise ArgumentError("warmup", f"must be 0 or more and less than 1, not {self.warmup:g}")
        if not self.beta > 0:
            raise ArgumentError(
                "beta", f"must be above 0 for the robust rule, not {self.beta}: nothing else falls idle"
            )

    @property
    def required_metrics(self) -> tuple[str, ...]:
        """The two parts of the loss."""
        return ("recon_loss", "kl")

    @property
    def min_epochs(self) -> int:
        """The epochs of as many decisions as must agree, after the warm-up."""
        return ceil(_AGREEING * self.patience / (1 - self.warmup))

    @property
    def shortest_window(self) -> None:
        """None: it takes no trend over a window."""

    def with_epochs(self, epochs: int) -> Self:
        """Return the rule for a training of `epochs` epochs, unless it was made for another number."""
        return self if self.epochs is not None else replace(self, epochs=epochs)

    def init(self) -> RobustState:
        """Return the state before the first epoch."""
        return RobustState(too_small=self.min_dim - 1)

    def restore(self, stored: Mapping[str, Any]) -> RobustState:
        """Return the state of which `dataclasses.asdict` made `stored`, also if its fields had their old names."""
        history = tuple(Measurement(**_with_new_names(measurement)) for measurement in stored["history"])
        return RobustState(**{**_with_new_names(stored), "history": history})

    def adapt(
        self,
        state: RobustState,
        epoch: int,
        latent_dim: int,
        metrics: Mapping[str, float],
        kl: Sequence[float] | None = None,
    ) -> tuple[RobustState, Decision | None]:
        """Take in one epoch; decide at every `patience`-th. See `Rule.adapt`.

        Raises `KeyError` if only one of ``recon_loss`` and `kl` is given, or neither when a decision is due, and
        `ValueError` for NaN.
        """
        decides = epoch % self.patience == 0
        if ("recon_loss" in metrics) != (kl is not None) or (decides and kl is None):
            raise KeyError(f"the robust rule decides every {self.patience} epochs on recon_loss and kl; give both")
        if self.epochs is not None and epoch <= self.warmup * self.epochs:
            return state, None
        if kl is not None:
            measurement = self._measure(epoch - state.rejected_epochs, metrics["recon_loss"], kl)
            state = replace(state, history=(*self._needed(state.history, measurement.age), measurement))
        if not decides:
            return state, None
        state, decision = (self._judge if state.before_trial else self._decide)(state, epoch, latent_dim)
        # An undo has dropped the measurements of the trial: the last is that of the model that is left.
        settled = epoch if decision.stop else None
        return state, replace(decision, n_informative=state.history[-1].n_informative, settled_epoch=settled)

    def _needed(self, history: tuple[Measurement, ...], age: int) -> tuple[Measurement, ...]:
        """Return the measurements that a decision at `age` or later may use, also one that undoes a trial."""
        recent = len(history) - _MOST_MEASUREMENTS - self.patience
        oldest = age - (_AGREEING + 1) * self.patience
        return tuple(past for i, past in enumerate(history) if i >= recent or past.age > oldest)

    def _measure(self, age: int, recon_loss: float, kl: Sequence[float]) -> Measurement:
        rate = sum(kl)
        loss = recon_loss + self.beta * rate
        if isnan(loss):
            raise ValueError(f"the loss is nan at epoch {age} (epochs that were undone do not count)")
        return Measurement(age, loss, sum(self.beta * value**2 >= IDLE_WORTH for value in kl), rate)

    def _judge(self, state: RobustState, epoch: int, latent_dim: int) -> tuple[RobustState, Decision]:
        """Keep or undo the removal on trial, then decide what to do next."""
        now = state.history[-1]
        before = tuple(measurement for measurement in state.history if measurement.age <= now.age - self.patience)
        expected, noise = extrapolate_loss(before[-_MOST_MEASUREMENTS:], now.age)
        cost = now.loss - expected
        verdict = f"{latent_dim} cost {cost:.3g} nats, noise {noise:.2g}"
        if cost <= _STANDARD_ERRORS * noise:
            state, decision = self._decide(replace(state, before_trial=0), epoch, latent_dim)
            return state, replace(decision, reason=f"{verdict}: kept; {decision.reason}")
        rejected = state.rejected_epochs + self.patience
        restored = replace(state, history=before, rejected_epochs=rejected, before_trial=0, too_small=latent_dim)
        state, decision = self._decide(restored, epoch, state.before_trial)
        return state, replace(decision, undo=True, reason=f"{verdict}: undone; {decision.reason}")

    def _decide(self, state: RobustState, epoch: int, latent_dim: int) -> tuple[RobustState, Decision]:
        now = state.history[-1]
        if now.n_informative == 0:
            return state, Decision(epoch, latent_dim, reason="no dimension carries information yet")
        idle = latent_dim - now.n_informative
        state = replace(state, self_pruning=state.self_pruning or idle >= ceil(TOLERANCE * latent_dim))
        if state.self_pruning and not (idle == 0 and self._settled(state)):
            return state, self._remove_idle(state, epoch, latent_dim)
        return self._try_smaller(state, epoch, latent_dim)

    def _remove_idle(self, state: RobustState, epoch: int, latent_dim: int) -> Decision:
        now = state.history[-1]
        counts = f"{now.n_informative} of {latent_dim} dimensions pay"
        smallest = state.too_small + 1
        if self._settled(state):
            keep = min(max(ceil((1 + TOLERANCE) * now.n_informative), smallest), latent_dim)
            return Decision(epoch, latent_dim, latent_dim - keep, stop=True, reason=f"{counts}, which has settled")
        # Training makes dimensions informative one after another, so none are removed while the information still
        # grows, and spares are kept.
        before = next((past for past in state.history if past.age == now.age - self.patience), None)
        if before is None or now.n_informative > before.n_informative or now.rate > (1 + TOLERANCE) * before.rate:
            return Decision(epoch, latent_dim, reason=f"{counts}, and they still take up more")
        keep = max(ceil((1 + _SPARES) * now.n_informative) + 2, smallest)
        return Decision(epoch, latent_dim, max(latent_dim - keep, 0), reason=counts)

    def _settled(self, state: RobustState) -> bool:
        """Return whether the last decisions agree on the number of informative dimensions and on their information."""
        now = state.history[-1]
        ages = {now.age - self.patience * back for back in range(_AGREEING)}
        last = [measurement for measurement in state.history if measurement.age in ages]
        counts = [measurement.n_informative for measurement in last]
        agree = len(last) == _AGREEING and max(counts) - min(counts) <= TOLERANCE * now.n_informative
        return agree and abs(now.rate - last[0].rate) <= _STEADY * now.rate

    def _try_smaller(self, state: RobustState, epoch: int, latent_dim: int) -> tuple[RobustState, Decision]:
        if state.history[-1].age < 2 * self.patience or len(state.history) < _FEWEST_MEASUREMENTS:
            return state, Decision(epoch, latent_dim, reason="all dimensions pay, so far")
        gap = latent_dim - state.too_small
        if gap <= max(1, int(TOLERANCE * latent_dim)):
            tried = state.too_small >= self.min_dim
            reason = f"{state.too_small} is too small" if tried else f"{self.min_dim} is the smallest size allowed"
            return state, Decision(epoch, latent_dim, stop=True, reason=reason)
        remove = min(gap - gap // 2, max(1, int(latent_dim * _LARGEST_STEP)))
        target = latent_dim - remove
        if self.epochs is not None and epoch + self.patience > self.epochs:
            return state, Decision(epoch, latent_dim, reason=f"too few epochs are left to try {target}")
        decision = Decision(epoch, latent_dim, remove, trial=True, reason=f"{target} on trial")
        return replace(state, before_trial=latent_dim), decision


def extrapolate_loss(history: Sequence[Measurement], age: int) -> tuple[float, float]:
    """Return the loss to expect at `age`, and the noise of a difference from it, from three measurements or more.

    Assumes loss = a + b / age. The noise is the standard deviation of the difference of two losses (nats). Both come
    from medians, so that the jump of the loss after a removal does not count.
    """
    last, pairs = history[-1], list(pairwise(history))
    decrease = median((a.loss - b.loss) / (b.age - a.age) for a, b in pairs)
    noise = _DEVIATIONS * median(abs(a.loss - b.loss - decrease * (b.age - a.age)) for a, b in pairs)
    return last.loss - decrease * (age - last.age) * last.age / age, noise


def _with_new_names(stored: Mapping[str, Any]) -> dict[str, Any]:
    return {_OLD_NAMES.get(name, name): value for name, value in stored.items()}
