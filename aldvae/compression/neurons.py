"""The latent neurons that are left, and what a decision does to them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from aldvae.compression.information import Directions
from aldvae.compression.resizing import Resizable
from aldvae.compression.rules.base import Decision
from aldvae.compression.selection import selection
from aldvae.compression.steps import Step, TrialBackup
from aldvae.utils.seeding import generator


class LatentNeurons:
    """Removes and adds latent neurons of `model`, and undoes a removal on trial.

    `left` holds the neurons that are left by their positions in the initial model, ascending; see
    `Compressor.neurons`. `select` says which are removed, and `seed` is for what is random.

    Raises `ArgumentError` for an unknown `select`.
    """

    def __init__(self, model: Resizable, select: str, seed: int) -> None:
        """See the class."""
        self.model, self.seed, self.left = model, seed, list(range(model.space.size))
        self._selection = selection(select)
        self._backup: TrialBackup | None = None

    def consolidate(self, decision: Decision, directions: Directions, power: float, epoch: int) -> None:
        """Rewrite the latent space in the directions that the decision keeps, and add the dimensions it asks for."""
        if decision.keep is not None:
            self.model.rewrite(directions.statistics, decision.keep, power)
            self.model.grow(decision.grow, generator(self.seed, "growth", epoch))
        self.left = list(range(self.model.space.size))

    def end_trial(self, decision: Decision, kl: list[float] | None) -> list[float] | None:
        """End a removal on trial, if there is one: undo or keep it; return the KL divergences that hold then."""
        backup, self._backup = self._backup, None
        if backup is None or not decision.undo:
            return kl
        self.model.restore(backup.snapshot, len(backup.neurons))
        self.left = list(backup.neurons)
        return backup.kl

    def remove(self, n: int, decision: Decision, kl: list[float] | None, epoch: int) -> Step:
        """Remove `n` neurons; return what was done."""
        size = len(self.left)
        if n == 0:
            return Step(size, decision)
        positions = self._selection(latent_dim=size, n=n, seed=self.seed, epoch=epoch, kl=kl)
        if decision.trial:
            self._backup = TrialBackup(self.model.snapshot(), list(self.left), kl)
        self.model.shrink(positions)
        removed = tuple(self.left[position] for position in positions)
        self.left = [neuron for neuron in self.left if neuron not in removed]
        return Step(len(self.left), decision, tuple(positions), removed)

    def state_dict(self) -> dict[str, Any]:
        """Return the neurons and, during a trial, the tensors needed to undo it."""
        return {"neurons": list(self.left), "before": self._backup and self._backup.to_state()}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load what `state_dict` returned; shrink or extend the layers to its size, unless they have it already."""
        kept, size = set(state["neurons"]), self.model.space.size
        if len(kept) != size:
            self.model.shrink([position for position, neuron in enumerate(self.left) if neuron not in kept])
            self.model.grow(len(kept - set(self.left)), generator(self.seed, "growth"))
        self.left = list(state["neurons"])
        self.model.notify()
        self._backup = state["before"] and TrialBackup.from_state(state["before"])
