"""What every rule has in common: a pure decision on a history of numbers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol, TypeVar

SMALLEST_DIM = 2


@dataclass(frozen=True)
class Observation:
    """What one epoch looked like: its number (from 1) and the metrics measured at its end."""

    epoch: int
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class RuleState:
    """What a rule remembers: all observations so far and whether it has slowed down."""

    history: tuple[Observation, ...] = ()
    slow: bool = False


@dataclass(frozen=True)
class Decision:
    """What a rule decided at the end of `epoch`, and the slopes (per epoch) it saw.

    With `undo`, the removal on trial is taken back first. `remove` is the number of neurons to remove now, 0 for none;
    on `trial`, so that a later decision can undo it. With `stop` the size is final after that. `go_on` is the
    number to remove instead by who does not want to stop. `slowed` marks the one decision that slowed the removal
    down. A metric whose window was not yet full is absent from `slopes`.
    """

    epoch: int
    latent_dim: int
    remove: int = 0
    stop: bool = False
    go_on: int = 0
    trial: bool = False
    undo: bool = False
    slowed: bool = False
    slopes: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""


State = TypeVar("State")


class Rule(Protocol[State]):
    """A rule is stateless: `adapt` takes a state, some dataclass, and returns the next, so that it can be replayed."""

    def init(self) -> State:
        """Return the state before the first epoch."""

    def restore(self, stored: Mapping[str, Any]) -> State:
        """Return the state of which `dataclasses.asdict` made `stored`."""

    def adapt(
        self,
        state: State,
        epoch: int,
        latent_dim: int,
        metrics: Mapping[str, float],
        kl: Sequence[float] | None = None,
    ) -> tuple[State, Decision | None]:
        """Take in one epoch; return the next state and the decision, None where there is none to take.

        `metrics` are means over validation samples, `kl` the KL divergence of each dimension (n_z,) in nats; empty and
        None where the epoch was not measured.
        """
