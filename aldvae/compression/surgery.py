"""Removing latent neurons from linear layers, and from what the optimiser knows of them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from aldvae.compression.rules.base import SMALLEST_DIM


def linear_layers(layers: Sequence[nn.Module]) -> list[nn.Linear]:
    """Return `layers`, all of which must be plain `nn.Linear` (else `TypeError`), each once (else `ValueError`)."""
    if len({id(layer) for layer in layers}) < len(layers):
        raise ValueError("a layer is listed twice")
    for layer in layers:
        if is_parametrized(layer):
            raise TypeError("a parametrised layer (weight_norm, spectral_norm) cannot be shrunk; use a plain nn.Linear")
        if not isinstance(layer, nn.Linear):
            raise TypeError(f"heads and readers must be nn.Linear, not {type(layer).__name__}")
    return [layer for layer in layers if isinstance(layer, nn.Linear)]


def latent_size(heads: Sequence[nn.Linear], readers: Sequence[nn.Linear]) -> int:
    """Return the latent size that `heads` write and `readers` read.

    A head writes the latent vector once, or several quantities of it one after another (a single layer for means
    and log-variances, split with `chunk`): its `out_features` is a multiple of the latent size.
    Raises `ValueError` where sizes do not fit together.
    """
    if not heads or not readers:
        raise ValueError("give at least one head and one reader")
    sizes = {reader.in_features for reader in readers}
    if len(sizes) > 1:
        raise ValueError(f"the readers take latent vectors of different sizes: {sorted(sizes)}")
    size = sizes.pop()
    for head in heads:
        if head.out_features % size:
            raise ValueError(f"a head of {head.out_features} outputs does not fit readers of {size} inputs")
    return size


@torch.no_grad()
def remove_neurons(
    heads: Sequence[nn.Module],
    readers: Sequence[nn.Module],
    remove: Iterable[int],
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Remove the latent neurons at positions `remove`, in place (the paper, section 3.3.1).

    `heads` (n_z outputs each) lose rows, `readers` (n_z inputs each) the same columns. What is kept stays as
    trained, bit by bit, and so does the `optimizer`'s state for it (Adam's moments, momentum): training goes on as
    if nothing happened. The layers get new, smaller parameters; `optimizer` is made to know them.

    Raises `TypeError` for layers other than `nn.Linear`; `ValueError` for a position out of range, for fewer than two
    dimensions left, and for an optimiser that does not hold these layers or whose state does not have the shape of its
    parameters. Nothing is changed then.
    """
    heads, readers = linear_layers(heads), linear_layers(readers)
    size = latent_size(heads, readers)
    gone = set(remove)
    if gone - set(range(size)):
        raise ValueError(f"positions {sorted(gone - set(range(size)))} are not in a latent space of {size}")
    keep = torch.tensor([position for position in range(size) if position not in gone], dtype=torch.long)
    if len(keep) < SMALLEST_DIM:
        raise ValueError(f"removing {len(gone)} of {size} latent neurons leaves {len(keep)}; {SMALLEST_DIM} must stay")
    cuts = [*_head_cuts(heads, keep, size), *((reader, "weight", 1, keep) for reader in readers)]
    if optimizer is not None:
        _check_optimizer(optimizer, [getattr(layer, name) for layer, name, _, _ in cuts])
    for layer, name, dim, index in cuts:
        _shrink(layer, name, dim, index, optimizer)
    for layer in (*heads, *readers):
        layer.out_features, layer.in_features = layer.weight.shape


def freeze(layers: Iterable[nn.Module], optimizer: torch.optim.Optimizer | None = None) -> None:
    """End the training of `layers`, in place: their parameters ask for no gradient, and `optimizer` forgets them."""
    frozen = {id(parameter): parameter for layer in layers for parameter in layer.parameters()}
    for parameter in frozen.values():
        parameter.requires_grad_(False)
        parameter.grad = None
    for group in optimizer.param_groups if optimizer is not None else []:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in frozen]
    if optimizer is not None:
        for parameter in frozen.values():
            optimizer.state.pop(parameter, None)


Cut = tuple[nn.Linear, str, int, Tensor]


def _head_cuts(heads: Sequence[nn.Linear], keep: Tensor, size: int) -> list[Cut]:
    cuts: list[Cut] = []
    for head in heads:
        rows = torch.cat([keep + start for start in range(0, head.out_features, size)])
        cuts.append((head, "weight", 0, rows))
        if head.bias is not None:
            cuts.append((head, "bias", 0, rows))
    return cuts


def _check_optimizer(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("LBFGS keeps its own list of parameters; use an optimiser such as Adam, AdamW or SGD")
    known = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for parameter in parameters:
        if parameter.requires_grad and id(parameter) not in known:
            raise ValueError("the optimizer does not hold the parameters of these heads and readers")
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"{type(optimizer).__name__} keeps {name} of shape {tuple(value.shape)} for a parameter of shape "
                    f"{tuple(parameter.shape)}; how to carry that over a removal is not known"
                )


def _shrink(layer: nn.Linear, name: str, dim: int, index: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    old: nn.Parameter = getattr(layer, name)
    index = index.to(old.device)
    # A new parameter rather than new data in the old one: autograd remembers the old one's shape for as long as
    # any graph that used it is alive, such as that of the user's last loss.
    new = nn.Parameter(old.index_select(dim, index), requires_grad=old.requires_grad)
    if old.grad is not None:
        new.grad = old.grad.index_select(dim, index)
    setattr(layer, name, new)
    if optimizer is not None:
        known = replace_in_optimizer(optimizer, old, new)
        if known:
            optimizer.state[new] = {key: _carry_over(value, old, dim, index) for key, value in known.items()}


def replace_in_optimizer(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter) -> dict[str, Any]:
    """Let `optimizer` train `new` where it trained `old`; return what it knew of `old`, and forget it."""
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    return dict(optimizer.state.pop(old, {}))


def _carry_over(value: Any, old: nn.Parameter, dim: int, index: Tensor) -> Any:
    """Cut what has the parameter's shape; step counts and the like stay as they are."""
    if isinstance(value, Tensor) and value.shape == old.shape:
        return value.index_select(dim, index.to(value.device))
    return value
