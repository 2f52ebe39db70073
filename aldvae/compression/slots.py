"""Slots: the layers that write the latent vector, those that read it, and what else has an entry for each dimension."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor, nn

from aldvae.utils.errors import ArgumentError, unknown_message

Layout: TypeAlias = Literal["blocks", "interleaved"]


@dataclass(frozen=True)
class Head:
    """A layer that writes the latent vector: linear, convolution or transposed convolution.

    `layout` tells how a layer that writes several quantities arranges its outputs: ``"blocks"`` (all means, then all
    log-variances, to be split with `chunk`) or ``"interleaved"`` (mean and log-variance of the first dimension, then of
    the second, as with `view(-1, n_z, 2)`). None: it writes one quantity. Raises `ArgumentError` for another layout.
    """

    module: nn.Module
    layout: Layout | None = None

    def __post_init__(self) -> None:
        """Check the layout."""
        if self.layout is not None and self.layout not in get_args(Layout):
            raise ArgumentError("layout", unknown_message(str(self.layout), list(get_args(Layout))))


@dataclass(frozen=True)
class Reader:
    """A layer that reads the latent vector: linear, (transposed) convolution, GRU, LSTM, RNN or a cell of these.

    `start` is the position among its inputs (features or channels) at which the latent vector begins: the number of
    other inputs before it, such as labels. Other inputs may follow. None: there are no others. Raises `ArgumentError`
    if `start` is negative.
    """

    module: nn.Module
    start: int | None = None

    def __post_init__(self) -> None:
        """Check the start."""
        if self.start is not None and self.start < 0:
            raise ArgumentError("start", f"must be 0 or more, not {self.start}")


# What has one entry for each dimension: a norm layer, or a parameter or buffer by its module and name, with the
# dimension of the tensor along which the entries lie if its shape leaves that open.
Along: TypeAlias = nn.Module | tuple[nn.Module, str] | tuple[nn.Module, str, int]


@dataclass(frozen=True)
class Slot:
    """Where a module has entries for the latent dimensions.

    `tensors` names its parameters and buffers concerned, each with the dimension along which the entries lie, and
    `attribute` is what tells the module its width, "" if nothing does. The entries begin at `start`; there are
    `quantities` for each latent dimension. `label` names the slot in messages.
    """

    label: str
    module: nn.Module
    tensors: tuple[tuple[str, int], ...]
    attribute: str = ""
    start: int = 0
    quantities: int = 1
    interleaved: bool = False

    @property
    def width(self) -> int:
        """The number of outputs, inputs or entries, those of other inputs included."""
        if not self.attribute:
            name, dim = self.tensors[0]
            return int(getattr(self.module, name).shape[dim])
        value = getattr(self.module, self.attribute)
        return int(value[0] if isinstance(value, tuple) else value)

    def set_width(self, width: int) -> None:
        """Tell the module its new width."""
        if self.attribute:
            is_tuple = isinstance(getattr(self.module, self.attribute), tuple)
            setattr(self.module, self.attribute, (width,) if is_tuple else width)
        if isinstance(self.module, nn.RNNBase):
            self.module.flatten_parameters()  # cuDNN wants the new weights in one piece.

    def positions(self, size: int) -> Tensor:
        """Return where the entries of each of `size` latent dimensions lie: (size, quantities)."""
        dimension, quantity = torch.arange(size)[:, None], torch.arange(self.quantities)
        if self.interleaved:
            return self.start + dimension * self.quantities + quantity
        return self.start + dimension + size * quantity

    def kept(self, keep: Tensor, size: int) -> Tensor:
        """Return the positions, ascending, that stay if only the latent dimensions `keep` (k,) of `size` stay."""
        stays = torch.ones(self.width, dtype=torch.bool)
        stays[self.positions(size)] = False
        stays[self.positions(size)[keep]] = True
        return stays.nonzero()[:, 0]

    def extended(self, size: int, n: int) -> Tensor:
        """Return the order of entries in which `n` new dimensions, appended to the tensor, follow its `size`."""
        groups = 1 if self.interleaved else self.quantities
        length, added = size * self.quantities // groups, n * self.quantities // groups
        width, end = self.width, self.start + groups * length
        order = list(range(self.start))
        for group in range(groups):
            order += range(self.start + group * length, self.start + (group + 1) * length)
            order += range(width + group * added, width + (group + 1) * added)
        return torch.tensor([*order, *range(end, width)], dtype=torch.long)

    def __str__(self) -> str:
        """Return the label and the type of the module, as in ``heads[0] (Linear)``."""
        return f"{self.label} ({type(self.module).__name__})"


@dataclass(frozen=True)
class LatentSpace:
    """All slots of a model."""

    heads: tuple[Slot, ...]
    readers: tuple[Slot, ...]
    along: tuple[Slot, ...] = ()

    @property
    def slots(self) -> tuple[Slot, ...]:
        """Heads, then readers, then what lies along the latent vector."""
        return (*self.heads, *self.readers, *self.along)

    @property
    def layers(self) -> list[nn.Module]:
        """The modules of heads and readers."""
        return [slot.module for slot in (*self.heads, *self.readers)]

    @property
    def size(self) -> int:
        """The latent size, n_z."""
        return self.heads[0].width // self.heads[0].quantities

    def tensors(self) -> Iterator[tuple[Slot, str, int]]:
        """Yield the slot, the name and the dimension of every tensor that depends on the latent size."""
        for slot in self.slots:
            for name, dim in slot.tensors:
                yield slot, name, dim

    @property
    def parameters(self) -> list[nn.Parameter]:
        """The parameters among `tensors`."""
        values = [getattr(slot.module, name) for slot, name, _ in self.tensors()]
        return [value for value in values if isinstance(value, nn.Parameter)]

    def set_size(self, before: int, size: int) -> None:
        """Tell all modules that `size` latent dimensions are left of `before`, once their tensors have changed."""
        widths = [slot.width if slot.attribute else 0 for slot in self.slots]
        for slot, width in zip(self.slots, widths, strict=True):
            slot.set_width(width + slot.quantities * (size - before))
