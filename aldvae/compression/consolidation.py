"""Consolidation: turn the latent space to its principal directions, where copies of one factor become one dimension.

A start that is too large often spreads one factor over several dimensions. Each of them then carries information, so
their KL divergences do not tell how many factors there are. The posterior means tell: copies are collinear. Measured in
units of the posterior's noise, the principal directions of the means show how many independent ones there are, and the
two heads and the readers can be rewritten in these directions without changing what the decoder sees of the means.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd
from torch.optim import Optimizer

from aldvae.compression.layers import latent_space
from aldvae.compression.optimizers import carry_over, check_optimizers, optimizer_list
from aldvae.compression.principal_directions import Basis, LatentStatistics
from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.compression.slots import Head, LatentSpace, Reader, Slot
from aldvae.utils.errors import ArgumentError

# State that optimisers keep for a parameter: averages of gradients, and averages of their squares.
_LINEAR_STATE = ("exp_avg", "momentum_buffer")
_SQUARED_STATE = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")


@dataclass(frozen=True)
class _Change:
    """The new `value` of a parameter; `carry` takes gradients, or their squares if told so, to the new basis."""

    module: nn.Module
    name: str
    value: Tensor
    carry: Callable[[Tensor, bool], Tensor]


def consolidate(
    *,
    mu: nn.Module | Head,
    log_var: nn.Module | None = None,
    readers: Sequence[nn.Module | Reader],
    statistics: LatentStatistics,
    keep: int | Sequence[int] | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    latent_dim: int | None = None,
) -> None:
    """Rewrite the latent space in its principal directions, in place.

    `keep` says which: the first so many, those at these positions (0 is the one with most information), or None: all.

    `mu` and `log_var` are the heads that write means and log-variances (n_z outputs each), or `mu` is an `aldvae.Head`
    with a layout that writes both; `readers` are the layers that read the latent vector, convolutions among them of
    kernel size 1. `latent_dim` is n_z; it must be given if readers have other inputs too. With all directions kept,
    the readers return the same for the means as before. The noise changes: a direction's log-variance is a weighted
    mean of the old ones. Directions that are not kept are removed. The layers get new parameters, whose gradients are
    None, and the `optimizer` (one or several) trains these. Its averages of gradients and of their squares follow the
    change of basis approximately. Call it between two steps.

    Raises `TypeError` for layers of other types; `ValueError` for layers that do not fit together, for layers without
    bias, for statistics of another size, for a `keep` of fewer than 2 or of other directions than there are, and for
    an optimiser whose state cannot follow.
    """
    space = latent_space([mu] if log_var is None else [mu, log_var], readers, latent_dim=latent_dim)
    rewrite(space, statistics, space.size if keep is None else keep, optimizer_list(optimizer))


@torch.no_grad()
def rewrite(
    space: LatentSpace,
    statistics: LatentStatistics,
    keep: int | Sequence[int],
    optimizers: Sequence[Optimizer] = (),
    *,
    power: float = 1.0,
) -> None:
    """Rewrite the latent space as `consolidate` does; the scale's head writes `power` times the log-variance."""
    keep, size = range(keep) if isinstance(keep, int) else keep, space.size
    check_rewritable(space)
    _check(size, keep, statistics)
    changes = _changes(space, statistics.basis(keep), power)
    parameters = [getattr(change.module, change.name) for change in changes]
    check_optimizers(optimizers, parameters)
    _check_state(optimizers, parameters)
    new: dict[Tensor, nn.Parameter] = {}
    for change, old in zip(changes, parameters, strict=True):
        if old not in new:
            new[old] = _replaced(old, change, optimizers)
        setattr(change.module, change.name, new[old])
    space.set_size(size, len(keep))


def check_rewritable(space: LatentSpace) -> None:
    """Raise `ValueError` unless a Gaussian posterior is written and read so that a change of basis can be made up for.

    Biases take up the mean of the latent space; where a kernel reaches over a padded border, none can.
    """
    size = space.size
    if [head.quantities for head in space.heads] not in ([1, 1], [2]):
        problem = f"must be two layers of {size} outputs each, means first, then log-variances, or one with a layout"
        raise ArgumentError("heads", f"{problem}, to be consolidated")
    # RNNs have a flag of this name, other layers the bias itself.
    biases: list[object] = [module.bias for module in space.layers]
    if any(bias is None or bias is False for bias in biases):
        raise ValueError("mu, log_var and readers need a bias, which takes up the mean of the latent space")
    for reader in space.readers:
        if isinstance(reader.module, _ConvNd) and not _is_pointwise(reader.module):
            problem = "cannot be consolidated: its kernel size must be 1, without stride or padding; use RobustRule"
            raise ArgumentError(reader.label, problem)
    if space.along:
        problem = "has entries along the latent vector, which cannot follow its consolidation; use RobustRule"
        raise ArgumentError(space.along[0].label, problem)


def _is_pointwise(module: _ConvNd) -> bool:
    ones, zeros = {*module.kernel_size, *module.stride} == {1}, {*module.padding, *module.output_padding} == {0}
    return ones and zeros


def _check(size: int, keep: Sequence[int], statistics: LatentStatistics) -> None:
    if statistics.covariance.shape != (size, size):
        raise ValueError(f"the statistics are those of {len(statistics.mean)} dimensions, not of {size}")
    if not SMALLEST_DIM <= len(keep) <= size:
        raise ValueError(f"keep must be {SMALLEST_DIM} to {size} directions, not {len(keep)}")
    if len(set(keep)) < len(keep) or not 0 <= min(keep) <= max(keep) < size:
        raise ValueError(f"keep must be different positions from 0 to {size - 1}, not {list(keep)}")


class _Map(NamedTuple):
    """What becomes of the outputs of a quantity: `matrix` times them, less `mean` before and plus `shift` after.

    Their gradients are multiplied by `carry`.
    """

    matrix: Tensor
    carry: Tensor
    mean: Tensor | None = None
    shift: Tensor | None = None

    def bias(self, bias: Tensor) -> Tensor:
        mapped = self.matrix @ (bias if self.mean is None else bias - self.mean)
        return mapped if self.shift is None else mapped + self.shift


def _changes(space: LatentSpace, basis: Basis, power: float) -> list[_Change]:
    means = _Map(basis.forward, basis.backward.T, mean=basis.mean)
    scales = _Map(basis.mixing, basis.mixing, shift=basis.log_noise * power)
    changes: list[_Change] = []
    for head, maps in zip(
        space.heads, ([means], [scales]) if len(space.heads) > 1 else ([means, scales],), strict=True
    ):
        changes += [_head_change(head, name, dim, space.size, maps) for name, dim in head.tensors]
    for reader in space.readers:
        for name, dim in reader.tensors:
            changes += _reader_changes(reader, name, dim, basis)
    return changes


def _head_change(head: Slot, name: str, dim: int, size: int, maps: Sequence[_Map]) -> _Change:
    old = head.positions(size)
    new = head.positions(len(maps[0].matrix))

    def each(value: Tensor, mapped: Callable[[_Map, Tensor], Tensor]) -> Tensor:
        rows = value.movedim(dim, 0)
        result = rows.new_empty((new.numel(), *rows.shape[1:]))
        for quantity, one in enumerate(maps):
            part = rows[old[:, quantity]]
            result[new[:, quantity]] = mapped(one, part.flatten(1) if part.ndim > 1 else part).view(-1, *rows.shape[1:])
        return result.movedim(0, dim)

    def carry(gradient: Tensor, squared: bool) -> Tensor:
        return each(gradient, lambda one, rows: (one.carry.square() if squared else one.carry) @ rows)

    value = _double(getattr(head.module, name))
    return _Change(
        head.module, name, each(value, lambda one, rows: one.bias(rows) if rows.ndim == 1 else one.matrix @ rows), carry
    )


def _reader_changes(reader: Slot, name: str, dim: int, basis: Basis) -> list[_Change]:
    """Return the changes of a weight that reads the latent vector, and of the bias that goes with it."""
    size, start = len(basis.mean), reader.start

    def read(value: Tensor, matrix: Tensor) -> Tensor:
        columns = value.movedim(dim, -1)
        parts = columns[..., :start], columns[..., start : start + size] @ matrix, columns[..., start + size :]
        return torch.cat(parts, -1).movedim(-1, dim)

    def carry(gradient: Tensor, squared: bool) -> Tensor:
        ahead = basis.forward.T
        return read(gradient, ahead.square() if squared else ahead)

    weight = _double(getattr(reader.module, name))
    read_by = weight.movedim(dim, -1)[..., start : start + size].reshape(-1, size)
    bias_name = name.replace("weight", "bias")
    bias = _double(getattr(reader.module, bias_name)) + read_by @ basis.mean
    return [
        _Change(reader.module, name, read(weight, basis.backward), carry),
        _Change(reader.module, bias_name, bias, lambda gradient, _: gradient),
    ]


def _double(tensor: Tensor) -> Tensor:
    """Return a copy to compute with: float64, on the CPU, since Apple's GPUs have none."""
    return tensor.detach().cpu().double()


def _check_state(optimizers: Sequence[Optimizer], parameters: Sequence[nn.Parameter]) -> None:
    for optimizer in optimizers:
        for parameter in parameters:
            for name, value in optimizer.state.get(parameter, {}).items():
                shaped = isinstance(value, Tensor) and value.ndim > 0
                if shaped and name not in (*_LINEAR_STATE, *_SQUARED_STATE):
                    raise ValueError(f"{type(optimizer).__name__} keeps {name}, which cannot follow a change of basis")


def _replaced(old: nn.Parameter, change: _Change, optimizers: Sequence[Optimizer]) -> nn.Parameter:
    new = nn.Parameter(change.value.to(old).contiguous(), requires_grad=old.requires_grad)

    def follow(name: str, value: Tensor) -> Tensor:
        return change.carry(_double(value), name in _SQUARED_STATE).to(value).contiguous()

    carry_over(optimizers, old, new, follow)
    return new
