"""The model as the compressor sees it: slots, optimisers, and what else follows the latent size."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import nn
from torch.optim import Optimizer

from aldvae.compression.consolidation import rewrite
from aldvae.compression.principal_directions import LatentStatistics
from aldvae.compression.slots import LatentSpace
from aldvae.compression.snapshot import Snapshot
from aldvae.compression.surgery import freeze, grow, shrink
from aldvae.utils.errors import ArgumentError


@dataclass(frozen=True)
class Resizable:
    """A model whose latent size can change.

    `sizes` are attributes that hold the latent size, `on_resize` is called with it, and `model` is the module whose
    buffers a snapshot holds, by default the modules in `sizes`. With `freezes`, heads and readers no longer train after
    a removal. Raises `ArgumentError` for an attribute that is not the latent size, and in a group of processes if there
    is no `on_resize`.
    """

    space: LatentSpace
    optimizers: Sequence[Optimizer]
    sizes: Sequence[tuple[object, str]] = ()
    on_resize: Callable[[int], object] | None = None
    model: nn.Module | None = None
    freezes: bool = False

    def __post_init__(self) -> None:
        """Check what follows the size."""
        _check_sizes(self.sizes, self.space.size)
        _check_distributed(self.on_resize)

    @property
    def owners(self) -> list[nn.Module]:
        """The modules whose buffers a snapshot holds, beside those of the slots."""
        if self.model is not None:
            return [self.model]
        return [owner for owner, _ in self.sizes if isinstance(owner, nn.Module)]

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
        return Snapshot.take(self.modules, self.optimizers, self.owners)

    def restore(self, snapshot: Snapshot, size: int) -> None:
        """Restore a snapshot that was taken at the latent size `size`."""
        before = self.space.size
        snapshot.restore(self.modules, self.optimizers, self.owners)
        self.space.set_size(before, size)

    def notify(self) -> None:
        """Tell all that follows the latent size."""
        for owner, name in self.sizes:
            setattr(owner, name, self.space.size)
        if self.on_resize is not None:
            self.on_resize(self.space.size)


def _check_sizes(sizes: Sequence[tuple[object, str]], latent_dim: int) -> None:
    """Raise `ArgumentError` for an attribute that is not the latent size."""
    for owner, name in sizes:
        value = getattr(owner, name, None)
        if value != latent_dim:
            problem = f"name {type(owner).__name__}.{name}, which is {value}, not the latent size {latent_dim}"
            raise ArgumentError("sizes", f"{problem}; use on_resize for other attributes")


def _check_distributed(on_resize: Callable[[int], object] | None) -> None:
    """Raise `ArgumentError` in a group of processes if nothing wraps the model anew after a removal.

    The wrapper would go on synchronising the gradients of the old parameters, and not those of the new ones.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and torch.distributed.get_world_size() > 1 and on_resize is None:
        problem = "must be given with several processes: wrap the model in DistributedDataParallel again"
        raise ArgumentError("on_resize", f"{problem}, since the layers get new parameters")
