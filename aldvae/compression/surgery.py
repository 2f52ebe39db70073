"""Removing latent neurons from linear layers, adding some, and the optimiser's state for them."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from aldvae.compression.rules.base import SMALLEST_DIM


def linear_layers(layers: Sequence[nn.Module]) -> list[nn.Linear]:
    """Return `layers`; raises `TypeError` unless all are plain `nn.Linear`, `ValueError` if one is listed twice."""
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

    The `out_features` of a head are the latent size, or a multiple of it if one layer writes several quantities one
    after another (means and log-variances, to be split with `chunk`). Raises `ValueError` if sizes do not fit together.
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

    `heads` (n_z outputs each, or a multiple) lose rows, `readers` (n_z inputs each) the same columns. The weights that
    are kept stay as trained, bit by bit, and so does the `optimizer`'s state for them (Adam's moments, momentum), so
    that training continues as if nothing had happened. The layers get new, smaller parameters, which replace the old
    ones in `optimizer`.

    Raises `TypeError` for layers other than `nn.Linear`; `ValueError` for a position out of range, if fewer than two
    dimensions would be left, and for an optimiser that does not hold these layers or whose state does not have the
    shape of its parameters. Nothing is changed then.
    """
    heads, readers = linear_layers(heads), linear_layers(readers)
    size = latent_size(heads, readers)
    keep = _kept(set(remove), size)
    cuts = [*_head_cuts(heads, keep, size), *((reader, "weight", 1, keep) for reader in readers)]
    if optimizer is not None:
        check_optimizer(optimizer, [getattr(layer, name) for layer, name, _, _ in cuts])
    for layer, name, dim, index in cuts:
        _shrink(layer, name, dim, index, optimizer)
    for layer in (*heads, *readers):
        layer.out_features, layer.in_features = layer.weight.shape


@torch.no_grad()
def add_neurons(
    heads: Sequence[nn.Module],
    readers: Sequence[nn.Module],
    n: int,
    optimizer: torch.optim.Optimizer | None = None,
    *,
    random: torch.Generator | None = None,
) -> None:
    """Add `n` latent neurons after the others, in place: `heads` (n_z outputs each) gain rows, `readers` columns.

    The new weights are drawn as `nn.Linear` draws them at first, from `random` (a generator on the CPU), the new biases
    are 0. What was there stays as trained, and so does the `optimizer`'s state for it; the new weights start with none.

    Raises `TypeError` and `ValueError` as `remove_neurons` does, and `ValueError` for a head of several quantities.
    """
    heads, readers = linear_layers(heads), linear_layers(readers)
    size = latent_size(heads, readers)
    if any(head.out_features != size for head in heads):
        raise ValueError(f"heads must have {size} outputs each, as many as the readers have inputs")
    places = [(layer, name, 0) for layer in heads for name in ("weight", "bias") if getattr(layer, name) is not None]
    places += [(layer, "weight", 1) for layer in readers]
    if optimizer is not None:
        check_optimizer(optimizer, [getattr(layer, name) for layer, name, _ in places])
    for layer, name, dim in places:
        _extend(layer, name, dim, n, random, optimizer)
    for layer in (*heads, *readers):
        layer.out_features, layer.in_features = layer.weight.shape


def _extend(
    layer: nn.Linear,
    name: str,
    dim: int,
    n: int,
    random: torch.Generator | None,
    optimizer: torch.optim.Optimizer | None,
) -> None:
    old: nn.Parameter = getattr(layer, name)
    shape = list(old.shape)
    shape[dim] = n
    # nn.Linear draws from a uniform distribution up to 1 / sqrt(inputs).
    bound = 0.0 if name == "bias" else (layer.in_features + n * dim) ** -0.5
    added = (torch.rand(shape, generator=random) * 2 - 1) * bound
    new = nn.Parameter(torch.cat([old, added.to(old)], dim), requires_grad=old.requires_grad)
    setattr(layer, name, new)
    if optimizer is not None:
        state = replace_in_optimizer(optimizer, old, new)
        if state:
            optimizer.state[new] = {key: _extended_state(value, old, added, dim) for key, value in state.items()}


def _extended_state(value: object, old: nn.Parameter, added: Tensor, dim: int) -> object:
    """Extend a value that has the parameter's shape with zeros; others, such as step counts, stay as they are."""
    if isinstance(value, Tensor) and value.shape == old.shape:
        return torch.cat([value, torch.zeros_like(added).to(value)], dim)
    return value


def freeze(layers: Iterable[nn.Module], optimizer: torch.optim.Optimizer | None = None) -> None:
    """Stop training `layers`, in place: their parameters require no gradient, and `optimizer` no longer holds them."""
    frozen = {id(parameter): parameter for layer in layers for parameter in layer.parameters()}
    for parameter in frozen.values():
        parameter.requires_grad_(False)
        parameter.grad = None
    for group in optimizer.param_groups if optimizer is not None else []:
        group["params"] = [parameter for parameter in group["params"] if id(parameter) not in frozen]
    if optimizer is not None:
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


# A layer, the name of a parameter, and the dimension and indices along which it is cut.
Cut = tuple[nn.Linear, str, int, Tensor]


def _head_cuts(heads: Sequence[nn.Linear], keep: Tensor, size: int) -> list[Cut]:
    cuts: list[Cut] = []
    for head in heads:
        rows = torch.cat([keep + start for start in range(0, head.out_features, size)])
        cuts.append((head, "weight", 0, rows))
        if head.bias is not None:
            cuts.append((head, "bias", 0, rows))
    return cuts


def check_optimizer(optimizer: torch.optim.Optimizer, parameters: list[nn.Parameter]) -> None:
    """Raise `ValueError` if `optimizer` does not hold `parameters`, or if its state cannot follow a surgery on them."""
    if isinstance(optimizer, torch.optim.LBFGS):
        raise ValueError("LBFGS keeps its own list of parameters; use an optimiser such as Adam, AdamW or SGD")
    held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
    for parameter in parameters:
        if parameter.requires_grad and id(parameter) not in held:
            raise ValueError("the optimizer does not hold the parameters of these heads and readers")
        for name, value in optimizer.state.get(parameter, {}).items():
            if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
                raise ValueError(
                    f"{type(optimizer).__name__} keeps {name} of shape {tuple(value.shape)} for a parameter of shape "
                    f"{tuple(parameter.shape)}, which cannot be cut to the kept neurons"
                )


def _shrink(layer: nn.Linear, name: str, dim: int, index: Tensor, optimizer: torch.optim.Optimizer | None) -> None:
    old: nn.Parameter = getattr(layer, name)
    index = index.to(old.device)
    # A new parameter rather than new data in the old one: autograd keeps the old one's shape as long as any graph that
    # used it is alive, such as that of the user's last loss.
    new = nn.Parameter(old.index_select(dim, index), requires_grad=old.requires_grad)
    if old.grad is not None:
        new.grad = old.grad.index_select(dim, index)
    setattr(layer, name, new)
    if optimizer is not None:
        state = replace_in_optimizer(optimizer, old, new)
        if state:
            optimizer.state[new] = {key: _cut_state(value, old, dim, index) for key, value in state.items()}


def replace_in_optimizer(optimizer: torch.optim.Optimizer, old: nn.Parameter, new: nn.Parameter) -> dict[str, object]:
    """Replace `old` by `new` in the groups of `optimizer`; remove the state for `old` and return it."""
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    return dict(optimizer.state.pop(old, {}))


def _cut_state(value: object, old: nn.Parameter, dim: int, index: Tensor) -> object:
    """Cut a value that has the parameter's shape; others, such as step counts, stay as they are."""
    if isinstance(value, Tensor) and value.shape == old.shape:
        return value.index_select(dim, index.to(value.device))
    return value
