"""A rule that needs no labels and no Fréchet distances: the KL divergence tells what is idle, trials tell the rest.

Two kinds of model need two kinds of evidence.

*A model that switches dimensions off.* With a Gaussian posterior, a dimension that does not pay for itself falls back
to the prior. Its KL divergence goes to zero, and removing it costs nothing. In a linear VAE a dimension of KL
divergence k improves the objective by ``beta (exp(2 k) - 1 - 2 k) / 2`` nats, about ``beta k^2`` for a small k. So
dimensions worth less than 0.01 nats, k below ``0.1 / sqrt(beta)``, are idle and go at once, but for spares, since
training wakes dimensions up one after another. When the number of those that pay and what they carry together have
settled, the answer is that number and a tenth, rounded up: a place for one that wakes up late, which costs nothing.

*A model that uses all it is given* (a softmax posterior, a nearly deterministic decoder, a start that is too small).
There the KL divergence does not decide. A third of the dimensions is removed on trial. If the loss then ends above
where it was heading by more than its noise, the removal is undone, and a smaller one is tried: bisection. A larger step
would be there sooner, and could jump over the best size to one as bad as that it came from.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import ceil
from statistics import median
from typing import Any, ClassVar, Self

from aldvae.compression.rules.base import SMALLEST_DIM, Decision, RegisteredRule
from aldvae.utils.errors import ArgumentError

# A dimension that improves the objective by less than this (nats) is idle.
IDLE_WORTH = 0.01
# The answer is sought to within this share of it.
TOLERANCE = 0.1
# So many decisions in a row must agree on it, while what all dimensions carry together changes by less than this share.
_AGREEING = 4
_STEADY = 0.03
# So many spares are kept for each paying dimension, and two.
_SPARES = 0.5
# So many measured epochs tell where the loss is heading, and so many at least.
_LONGEST_VIEW, _SHORTEST_VIEW = 7, 5
# The largest share of the dimensions that is removed on trial at once.
_LARGEST_STEP = 1 / 3
# The median absolute deviation of normal numbers, times this, is their standard deviation.
_DEVIATIONS = 1.4826
_STANDARD_ERRORS = 2.0


@dataclass(frozen=True)
class Seen:
    """One epoch: the `age` of the weights (epochs that trained them), their size, and what was measured.

    `loss` is the negative ELBO (nats per sample, the KL divergence weighted by beta), `paying` the number of dimensions
    that are not idle, `rate` the KL divergence of all (nats).
    """

    age: int
    loss: float
    paying: int
    rate: float


@dataclass(frozen=True)
class RobustState:
    """What the rule remembers.

    `history` has what the present weights went through; `wasted` epochs were spent on removals that were undone.
    `before_trial` is the size a removal on trial began from, 0 if none is; `too_small` the largest size that failed.
    `prunes`: dimensions were seen to fall idle.
    """

    history: tuple[Seen, ...] = ()
    wasted: int = 0
    before_trial: int = 0
    too_small: int = 0
    prunes: bool = False


@dataclass(frozen=True, kw_only=True)
class RobustRule(RegisteredRule[RobustState]):
    """Removes what is idle at once, anything else on trial; stops when the size has settled.

    Decides every `patience` epochs, which is also how long a trial lasts. `beta` is the weight of the KL divergence in
    the training loss. Needs `recon_loss` and `kl` at every step, or at some: then at every `patience`-th at least.
    Removes the dimensions of lowest KL divergence. Never below `min_dim`. With the number of all `epochs`, no trial is
    begun that could not be judged. Raises `ArgumentError` for settings that make no sense.
    """

    # Which dimensions are idle, and so how many go, is known by their KL divergence.
    default_select: ClassVar[str] = "kl"
    supports_any_select: ClassVar[bool] = False
    # Its stop says that no smaller size is good enough: there is nothing to remove after it.
    supports_no_stop: ClassVar[bool] = False
    can_undo: ClassVar[bool] = True
    limited_by_start: ClassVar[bool] = True

    patience: int = 3
    beta: float = 1.0
    min_dim: int = SMALLEST_DIM
    epochs: int | None = None

    def __post_init__(self) -> None:
        """Refuse settings that make no sense."""
        for name, least in (("patience", 1), ("min_dim", SMALLEST_DIM)):
            if getattr(self, name) < least:
                raise ArgumentError(name, f"must be {least} or more, not {getattr(self, name)}")
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
        """As many decisions as must agree."""
        return _AGREEING * self.patience

    @property
    def shortest_window(self) -> None:
        """It takes no trend over a window."""

    def with_epochs(self, epochs: int) -> Self:
        """Return the rule that begins no trial too late to be judged; one that knows its `epochs` keeps them."""
        return self if self.epochs is not None else replace(self, epochs=epochs)

    def init(self) -> RobustState:
        """Return the state before the first epoch."""
        return RobustState(too_small=self.min_dim - 1)

    def restore(self, stored: Mapping[str, Any]) -> RobustState:
        """Return the state that `asdict` stored."""
        return RobustState(**{**stored, "history": tuple(Seen(**seen) for seen in stored["history"])})

    def adapt(
        self,
        state: RobustState,
        epoch: int,
        latent_dim: int,
        metrics: Mapping[str, float],
        kl: Sequence[float] | None = None,
    ) -> tuple[RobustState, Decision | None]:
        """Take in one epoch; decide at every `patience`-th one. See `Rule.adapt`.

        Raises `KeyError` when only one of ``recon_loss`` and `kl` is given, or none when it is time to decide, and
        `ValueError` for NaN.
        """
        deciding = epoch % self.patience == 0
        if ("recon_loss" in metrics) != (kl is not None) or (deciding and kl is None):
            raise KeyError(f"the robust rule decides every {self.patience} epochs on recon_loss and kl; give both")
        if kl is not None:
            seen = self._seen(epoch - state.wasted, metrics["recon_loss"], kl)
            state = replace(state, history=(*state.history, seen))
        if not deciding:
            return state, None
        if state.before_trial:
            return self._judge(state, epoch, latent_dim)
        return self._decide(state, epoch, latent_dim)

    def _seen(self, age: int, recon_loss: float, kl: Sequence[float]) -> Seen:
        rate = sum(kl)
        loss = recon_loss + self.beta * rate
        if loss != loss:
            raise ValueError(f"epoch of age {age}: the loss is nan, and the rule cannot go by it")
        return Seen(age, loss, sum(self.beta * value**2 >= IDLE_WORTH for value in kl), rate)

    def _judge(self, state: RobustState, epoch: int, latent_dim: int) -> tuple[RobustState, Decision]:
        """Keep or undo the removal on trial, and go on from there."""
        now = state.history[-1]
        before = tuple(seen for seen in state.history if seen.age <= now.age - self.patience)
        expected, noise = outlook(before[-_LONGEST_VIEW:], now.age)
        cost = now.loss - expected
        told = f"{latent_dim} cost {cost:.3g} nats, noise {noise:.2g}"
        if cost <= _STANDARD_ERRORS * noise:
            state, decision = self._decide(replace(state, before_trial=0), epoch, latent_dim)
            return state, replace(decision, reason=f"{told}: kept; {decision.reason}")
        back = replace(state, history=before, wasted=state.wasted + self.patience, before_trial=0, too_small=latent_dim)
        state, decision = self._decide(back, epoch, state.before_trial)
        return state, replace(decision, undo=True, reason=f"{told}: undone; {decision.reason}")

    def _decide(self, state: RobustState, epoch: int, latent_dim: int) -> tuple[RobustState, Decision]:
        now = state.history[-1]
        if now.paying == 0:
            return state, Decision(epoch, latent_dim, reason="no dimension carries information yet")
        idle = latent_dim - now.paying
        state = replace(state, prunes=state.prunes or idle >= ceil(TOLERANCE * latent_dim))
        if state.prunes and not (idle == 0 and self._settled(state)):
            return state, self._prune(state, epoch, latent_dim)
        return self._try_less(state, epoch, latent_dim)

    def _prune(self, state: RobustState, epoch: int, latent_dim: int) -> Decision:
        now = state.history[-1]
        told = f"{now.paying} of {latent_dim} dimensions pay"
        least = state.too_small + 1
        if self._settled(state):
            keep = min(max(ceil((1 + TOLERANCE) * now.paying), least), latent_dim)
            return Decision(epoch, latent_dim, latent_dim - keep, stop=True, reason=f"{told}, which has settled")
        # Training wakes dimensions up one after another: none go while those at work take up more, and spares stay.
        before = next((seen for seen in state.history if seen.age == now.age - self.patience), None)
        if before is None or now.paying > before.paying or now.rate > (1 + TOLERANCE) * before.rate:
            return Decision(epoch, latent_dim, reason=f"{told}, and they still take up more")
        keep = max(ceil((1 + _SPARES) * now.paying) + 2, least)
        return Decision(epoch, latent_dim, max(latent_dim - keep, 0), reason=told)

    def _settled(self, state: RobustState) -> bool:
        """Whether the number of paying dimensions and what they carry agree over the last decisions."""
        now = state.history[-1]
        ages = {now.age - self.patience * back for back in range(_AGREEING)}
        last = [seen for seen in state.history if seen.age in ages]
        paying = [seen.paying for seen in last]
        agree = len(last) == _AGREEING and max(paying) - min(paying) <= TOLERANCE * now.paying
        return agree and abs(now.rate - last[0].rate) <= _STEADY * now.rate

    def _try_less(self, state: RobustState, epoch: int, latent_dim: int) -> tuple[RobustState, Decision]:
        if state.history[-1].age < 2 * self.patience or len(state.history) < _SHORTEST_VIEW:
            return state, Decision(epoch, latent_dim, reason="all dimensions pay, so far")
        gap = latent_dim - state.too_small
        if gap <= max(1, int(TOLERANCE * latent_dim)):
            tried = state.too_small >= self.min_dim
            reason = f"{state.too_small} is too small" if tried else f"{self.min_dim} is the smallest size allowed"
            return state, Decision(epoch, latent_dim, stop=True, reason=reason)
        removed = min(gap - gap // 2, max(1, int(latent_dim * _LARGEST_STEP)))
        target = latent_dim - removed
        if self.epochs is not None and epoch + self.patience > self.epochs:
            return state, Decision(epoch, latent_dim, reason=f"too few epochs are left to try {target}")
        decision = Decision(epoch, latent_dim, removed, trial=True, reason=f"{target} on trial")
        return replace(state, before_trial=latent_dim), decision


def outlook(before: Sequence[Seen], age: int) -> tuple[float, float]:
    """Return the loss to be expected at `age` from how it fell `before` (three epochs or more), and its noise (nats).

    Medians, so that the jump after a removal does not count. The pace is that of a loss falling like 1 / age. The noise
    is the standard deviation of the difference of two losses.
    """
    last, pairs = before[-1], list(pairwise(before))
    pace = median((a.loss - b.loss) / (b.age - a.age) for a, b in pairs)
    noise = _DEVIATIONS * median(abs(a.loss - b.loss - pace * (b.age - a.age)) for a, b in pairs)
    return last.loss - pace * (age - last.age) * last.age / age, noise
