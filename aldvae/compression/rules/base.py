"""What a rule is: a pure decision on a history of numbers, and what it declares about itself."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Protocol, Self, TypeAlias, TypeVar

# The smallest latent size that any rule and the surgery allow.
SMALLEST_DIM = 2


@dataclass(frozen=True)
class Decision:
    """What a rule decided at the end of `epoch`, and the slopes (per epoch) it saw.

    With `undo`, the removal on trial is undone first. `remove` is the number of neurons to remove now, 0 for none, at
    most `latent_dim` - 2; with `trial`, a later decision can undo this removal. With `stop` the size is final after
    that; `remove_if_continuing` is the number to remove instead if the caller ignores the stop. `slowed` marks the one
    decision that slowed the removal down. A metric whose window was not yet full is absent from `slopes`.

    A rule that consolidates gives in `keep` the positions of the principal directions in which the latent space is
    rewritten, and in `grow` the number of new dimensions after them, instead of `remove`. `n_informative` is the number
    of dimensions that carry information, with the `n_range` that holds if the limit is half or twice as high, and
    `settled_epoch` the epoch at which that number had settled; None where the rule does not say.
    """

    epoch: int
    latent_dim: int
    remove: int = 0
    stop: bool = False
    remove_if_continuing: int = 0
    trial: bool = False
    undo: bool = False
    slowed: bool = False
    slopes: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    keep: tuple[int, ...] | None = None
    grow: int = 0
    n_informative: int | None = None
    n_range: tuple[int, int] | None = None
    settled_epoch: int | None = None


State = TypeVar("State")


class Rule(Protocol[State]):
    """When to remove latent neurons, how many, and when to stop: all that `Compressor` knows of a rule.

    For a rule of your own, inherit from this class, write `init`, `restore` and `adapt`, and override the declarations
    that do not hold. A class that has all these members need not inherit. A rule holds no state: `adapt` takes a state,
    a dataclass of your own, and returns the next one, so that decisions can be replayed and runs resumed.
    """

    default_select: ClassVar[str] = "random"
    """Which neurons are removed if the caller does not say: ``"random"``, ``"kl"`` or ``"last"``."""

    supports_any_select: ClassVar[bool] = True
    """Whether the caller may choose another selection than `default_select`."""

    supports_no_stop: ClassVar[bool] = True
    """Whether the caller may ignore a stop: `Decision.remove_if_continuing` says how many to remove then."""

    can_undo: ClassVar[bool] = False
    """Whether it removes on trial and may undo that.

    Undoing restores the optimiser's state. So the optimiser must be given, must go on holding the layers (they are not
    frozen), and must train this model alone (the run is not part of a stack).
    """

    consolidates: ClassVar[bool] = False
    """Whether it judges the principal directions of the latent space instead of its dimensions.

    `adapt` then gets in `kl` the information that each direction carries alone (nats, `Directions.own`), and in
    `metrics` the number of ``copies``. Two heads are needed, means first, or one with a layout.
    """

    @abstractmethod
    def init(self) -> State:
        """Return the state before the first epoch."""

    @abstractmethod
    def restore(self, stored: Mapping[str, Any]) -> State:
        """Return the state of which `dataclasses.asdict` made `stored`."""

    @abstractmethod
    def adapt(
        self,
        state: State,
        epoch: int,
        latent_dim: int,
        metrics: Mapping[str, float],
        kl: Sequence[float] | None = None,
    ) -> tuple[State, Decision | None]:
        """Take in one epoch; return the next state and the decision, None if none is due.

        `epoch` counts from 1. `metrics` are means over validation samples, `kl` the KL divergence of each dimension
        (n_z,) in nats; empty and None if the epoch was not measured. After a decision with `undo`, `latent_dim` is the
        size before the removal on trial.
        """

    def is_due(self, epoch: int) -> bool:  # noqa: ARG002 - a rule that measures rarely uses it
        """Return whether the rule takes in the posterior at the end of `epoch`; asked only if it consolidates."""
        return self.consolidates

    def with_epochs(self, epochs: int) -> Self:  # noqa: ARG002 - a rule that plans ahead uses it
        """Return the rule for a training of `epochs` epochs; the same one if their number does not matter to it."""
        return self


# A rule with a state of any type.
AnyRule: TypeAlias = Rule[Any]


class RegisteredRule(Rule[State], Protocol[State]):
    """A rule that the command line offers: a frozen dataclass whose fields are settings of a run."""

    limited_by_start: ClassVar[bool]
    """Whether a stop at the initial size suggests that a larger start finds a larger size."""

    @property
    @abstractmethod
    def required_metrics(self) -> tuple[str, ...]:
        """What `adapt` needs at every measured epoch: keys of its `metrics`, and ``"kl"`` for its argument `kl`."""

    @property
    @abstractmethod
    def min_epochs(self) -> int:
        """The epochs that training should have at least, so that the rule can stop."""

    @property
    @abstractmethod
    def shortest_window(self) -> int | None:
        """The fewest epochs over which it takes a trend, for which two must be measured; None if it takes none."""
