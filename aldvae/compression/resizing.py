"""The model as the compressor sees it: slots, optimisers, and what else follows the latent size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from aldvae.compression.consolidation import LatentStatistics, rewrite
from aldvae.compression.slots import LatentSpace
from aldvae.compression.snapshot import Snapshot
from aldvae.compression.surgery import freeze, grow, shrink


@dataclass(frozen=True)
class Resizable:
    """A model whose latent size can change.

    `sizes` are attributes that hold the latent size, `on_resize` is called with it, and `model` are modules whose
    buffers a snapshot holds. With `freezes`, heads and readers no longer train after a removal.
    """

    space: LatentSpace
    optimizers: Sequence[Optimizer]
    sizes: Sequence[tuple[object, str]] = ()
    on_resize: Callable[[int], object] | None = None
    model: Sequence[nn.Module] = ()
    freezes: bool = False

    @property
    def modules(self) -> list[nn.Module]:
        """The modules of all slots."""
        return [slot.module for slot in self.space.slots]

    def shrink(self, positions: Sequence[int]) -> None:
        """Remove the latent neurons at `positions`."""
        shrink(self.space, positions, self.optimizers)
        if self.freezes and positions:
            freeze(self.space.layers, self.optimizers)

    def grow(self, n: int, random: torch.Generator) -> None:
        """Add `n` latent neurons, their weights drawn from `random`."""
        if n > 0:
            grow(self.space, n, self.optimizers, random=random)

    def rewrite(self, statistics: LatentStatistics, keep: Sequence[int], power: float) -> None:
        """Rewrite the latent space in the principal directions at the positions `keep`; see `consolidation.rewrite`."""
        rewrite(self.space, statistics, keep, self.optimizers, power=power)

    def snapshot(self) -> Snapshot:
        """Copy the present parameters, buffers and optimisers' states."""
        return Snapshot.take(self.modules, self.optimizers, self.model)

    def restore(self, snapshot: Snapshot, size: int) -> None:
        """Restore a snapshot that was taken at the latent size `size`."""
        before = self.space.size
        snapshot.restore(self.modules, self.optimizers, self.model)
        self.space.set_size(before, size)

    def notify(self) -> None:
        """Tell all that follows the latent size."""
        for owner, name in self.sizes:
            setattr(owner, name, self.space.size)
        if self.on_resize is not None:
            self.on_resize(self.space.size)
