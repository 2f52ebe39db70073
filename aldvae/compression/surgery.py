"""Removing latent neurons, adding some, and the optimisers' state for them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aldvae.compression.layers import latent_space
from aldvae.compression.optimizers import carry_over, check_optimizers, optimizer_list
from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.compression.slots import Along, Head, LatentSpace, Reader, Slot


def remove_neurons(
    heads: Sequence[nn.Module | Head],
    readers: Sequence[nn.Module | Reader],
    remove: Iterable[int],
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    along: Sequence[Along] = (),
    latent_dim: int | None = None,
) -> None:
    """Remove the latent neurons at positions `remove`, in place (the paper, section 3.3.1).

    `heads` (n_z outputs each, or a multiple with a layout) lose outputs, `readers` the inputs that read them, and what
    lies `along` the latent vector its entries. `latent_dim` is n_z now; it must be given where sizes leave it open. See
    `Compressor` for the four. The weights that are kept stay as trained, bit by bit, and so does the state of the
    `optimizer` (one or several) for them (Adam's moments, momentum), so that training continues as if nothing had
    happened. The layers get new, smaller parameters, which replace the old ones in the optimisers.

    Raises `TypeError` for layers of other types; `ValueError` for layers that do not fit together, for a position out
    of range, if fewer than two dimensions would be left, and for an optimiser that does not hold these layers or whose
    state does not have the shape of its parameters. Nothing is changed then.
    """
    shrink(latent_space(heads, readers, along, latent_dim), remove, optimizer_list(optimizer))


@torch.no_grad()
def shrink(space: LatentSpace, remove: Iterable[int], optimizers: Sequence[Optimizer]) -> None:
    """Remove the latent neurons at positions `remove`; see `remove_neurons`."""
    size = space.size
    keep = _kept(set(remove), size)
    check_optimizers(optimizers, space.parameters)

    def cut(slot: Slot, dim: int) -> Callable[[Tensor], Tensor]:
        index = slot.kept(keep, size)
        return lambda value: value.index_select(dim, index.to(value.device))

    cuts = [(slot, name, cut(slot, dim)) for slot, name, dim in space.tensors()]
    new: dict[Tensor, Tensor] = {}
    for slot, name, apply in cuts:
        old: Tensor = getattr(slot.module, name)
        if old not in new:
            new[old] = _replaced(old, apply, optimizers)
        setattr(slot.module, name, new[old])
    space.set_size(size, len(keep))


def _replaced(old: Tensor, cut: Callable[[Tensor], Tensor], optimizers: Sequence[Optimizer]) -> Tensor:
    """Return the tensor that replaces `old`, in the optimisers too; a tied one is asked for once."""
    if not isinstance(old, nn.Parameter):
        return cut(old)
    # A new parameter rather than new data in the old one: autograd keeps the old one's shape as long as any graph that
    # used it is alive, such as that of the user's last loss.
    new = nn.Parameter(cut(old), requires_grad=old.requires_grad)
    if old.grad is not None:
        new.grad = cut(old.grad)
    carry_over(optimizers, old, new, lambda _, value: cut(value))
    return new


@torch.no_grad()
def grow(
    space: LatentSpace, n: int, optimizers: Sequence[Optimizer] = (), *, random: torch.Generator | None = None
) -> None:
    """Add `n` latent neurons after the others, in place: heads gain outputs, readers the inputs that read them.

    The new weights are drawn as the layers draw them at first, from `random` (a generator on the CPU), the new biases
    are 0. What was there stays as trained, and so does the optimisers' state for it; the new weights start with none.

    Raises `ValueError` if something lies along the latent vector, for which nothing tells the new entries, and for
    optimisers as `remove_neurons` does.
    """
    if space.along:
        raise ValueError(f"{space.along[0]} cannot grow with the latent vector; use a rule that only removes")
    check_optimizers(optimizers, space.parameters)
    size = space.size
    new: dict[Tensor, Tensor] = {}
    for slot, name, dim in space.tensors():
        old: nn.Parameter = getattr(slot.module, name)
        if old not in new:
            new[old] = _extended(old, slot, name, dim, size, n, random, optimizers)
        setattr(slot.module, name, new[old])
    space.set_size(size, size + n)


def _extended(
    old: nn.Parameter,
    slot: Slot,
    name: str,
    dim: int,
    size: int,
    n: int,
    random: torch.Generator | None,
    optimizers: Sequence[Optimizer],
) -> nn.Parameter:
    shape, order = list(old.shape), slot.extended(size, n)
    shape[dim] = n * slot.quantities
    added = (torch.rand(shape, generator=random) * 2 - 1) * _bound(old, slot.module, name, dim, shape[dim])

    def extend(value: Tensor, more: Tensor) -> Tensor:
        return torch.cat([value, more.to(value)], dim).index_select(dim, order.to(value.device))

    new = nn.Parameter(extend(old, added), requires_grad=old.requires_grad)
    carry_over(optimizers, old, new, lambda _, value: extend(value, torch.zeros_like(added)))
    return new


def _bound(old: nn.Parameter, module: nn.Module, name: str, dim: int, added: int) -> float:
    """Return up to what torch draws the weights of `module` from a uniform distribution: 1 / sqrt(inputs)."""
    if name == "bias":
        return 0.0
    if isinstance(module, nn.RNNBase | nn.RNNCellBase):
        return float(module.hidden_size**-0.5)
    shape = list(old.shape)
    shape[dim] += added
    return float(torch.Size(shape[1:]).numel() ** -0.5)


def freeze(layers: Iterable[nn.Module], optimizers: Sequence[Optimizer] = ()) -> None:
    """Stop training `layers`, in place: they require no gradient, and the optimisers no longer hold them."""
    frozen = {id(parameter): parameter for layer in layers for parameter in layer.parameters()}
    for parameter in frozen.values():
        parameter.requires_grad_(False)
        parameter.grad = None
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            group["params"] = [parameter for parameter in group["params"] if id(parameter) not in frozen]
        for parameter in frozen.values():
            optimizer.state.pop(parameter, None)


def _kept(removed: set[int], size: int) -> Tensor:
    """Return the positions (n,) of a latent space of `size` that are not `removed`."""
    if outside := sorted(removed - set(range(size))):
        raise ValueError(f"positions {outside} are not in a latent space of {size}")
    kept = [position for position in range(size) if position not in removed]
    if len(kept) < SMALLEST_DIM:
        raise ValueError(
            f"removing {len(removed)} of {size} latent neurons leaves {len(kept)}; {SMALLEST_DIM} must stay"
        )
    return torch.tensor(kept, dtype=torch.long)
