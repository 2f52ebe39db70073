"""What a call of `Compressor.step` did, and what undoes a removal on trial."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple

from aldvae.compression.information import Directions
from aldvae.compression.rules.base import Decision
from aldvae.compression.snapshot import Snapshot


@dataclass(frozen=True)
class Step:
    """What one call of `Compressor.step` did.

    `latent_dim` is the size after it, `decision` what the rule decided, None if no decision was due. `removed` holds
    the positions that were removed, as they were before this call; `neurons` names the same neurons by their positions
    in the initial model. If the decision has `undo`, model and optimiser were first restored to before the trial.
    `directions` are the principal directions that a rule which consolidates judged.
    """

    latent_dim: int
    decision: Decision | None = None
    removed: tuple[int, ...] = ()
    neurons: tuple[int, ...] = ()
    directions: Directions | None = None


class TrialBackup(NamedTuple):
    """What is needed to undo a removal on trial."""

    snapshot: Snapshot
    neurons: list[int]
    kl: list[float] | None

    def to_state(self) -> tuple[dict[str, object], list[int], list[float] | None]:
        """Return it as tensors, numbers, lists and dictionaries."""
        return self.snapshot.to_state(), self.neurons, self.kl

    @classmethod
    def from_state(cls, state: tuple[dict[str, Any], list[int], list[float] | None]) -> TrialBackup:
        """Return the backup of which `to_state` made `state`."""
        snapshot, neurons, kl = state
        return cls(Snapshot.from_state(snapshot), list(neurons), kl)
