"""From layers that a user lists to slots: which can be shrunk, whether they fit together, and the latent size."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase
from torch.nn.modules.conv import _ConvNd, _ConvTransposeNd
from torch.nn.modules.lazy import LazyModuleMixin
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.utils.parametrize import is_parametrized

from aldvae.compression.slots import Along, Head, LatentSpace, Layout, Reader, Slot
from aldvae.utils.errors import ArgumentError


def latent_space(
    heads: Sequence[nn.Module | Head],
    readers: Sequence[nn.Module | Reader],
    along: Sequence[Along] = (),
    latent_dim: int | None = None,
) -> LatentSpace:
    """Return the slots of a model.

    Without `latent_dim`, the size is read off heads and readers, which must agree on it beyond doubt. Raises
    `TypeError` for a layer that cannot be shrunk, and `ArgumentError` (a `ValueError`) for layers that do not fit
    together, for a head of several quantities without a layout, for a reader with other inputs without a start, and for
    a module that is listed twice.
    """
    if not heads or not readers:
        raise ValueError("give at least one head and one reader")
    given_heads = [head if isinstance(head, Head) else Head(head) for head in heads]
    given_readers = [reader if isinstance(reader, Reader) else Reader(reader) for reader in readers]
    head_slots = [_head(head, f"heads[{i}]") for i, head in enumerate(given_heads)]
    reader_slots = [_reader(reader, f"readers[{i}]") for i, reader in enumerate(given_readers)]
    layouts = [head.layout for head in given_heads]
    size = latent_dim if latent_dim is not None else _read_off(head_slots, layouts, reader_slots)
    space = LatentSpace(
        tuple(_with_layout(slot, layout, size) for slot, layout in zip(head_slots, layouts, strict=True)),
        tuple(reader_slots),
        tuple(_along(item, f"along[{i}]", size) for i, item in enumerate(along)),
    )
    for slot, given in zip(space.readers, given_readers, strict=True):
        _check_start(slot, given, size)
    _check_twice(space)
    return space


def _check_start(slot: Slot, given: Reader, size: int) -> None:
    """Raise `ArgumentError` unless it is told where the latent vector lies among the inputs, and fits there."""
    if slot.start + size > slot.width:
        problem = f"{size} values from input {slot.start} on do not fit its {slot.width} inputs"
        raise ArgumentError(slot.label, f"cannot read the latent vector: {problem}; check start and latent_dim")
    if given.start is None and slot.width > size:
        problem = f"has {slot.width} inputs for a latent size of {size}: say where the latent vector begins, as in"
        raise ArgumentError(slot.label, f"{problem} aldvae.Reader(module, start=0)")


def _read_off(heads: Sequence[Slot], layouts: Sequence[Layout | None], readers: Sequence[Slot]) -> int:
    """Return the latent size that heads and readers agree on; raises `ArgumentError` where there is a doubt."""
    sizes = {reader.width - reader.start for reader in readers}
    if len(sizes) > 1:
        problem = f"take latent vectors of different sizes: {sorted(sizes)}; if they have other inputs too, give"
        raise ArgumentError("readers", f"{problem} latent_dim=")
    size = sizes.pop()
    for head, layout in zip(heads, layouts, strict=True):
        # A layer for means and log-variances has twice as many outputs; where the two numbers are equal, half of the
        # inputs must be something else.
        if layout is not None and head.width != 2 * size:
            problem = f"must be given: {head.label} has a layout and {head.width} outputs, the readers have {size}"
            raise ArgumentError("latent_dim", f"{problem} inputs")
        if layout is None and size > 0 and head.width % size:
            problem = f"a head of {head.width} outputs does not fit readers of {size} inputs"
            raise ArgumentError(head.label, f"has the wrong size: {problem}; if they have others too, give latent_dim=")
    if len(heads) == 1 and layouts[0] is None and heads[0].width == size:
        # It may write means and log-variances of half the size, and the readers have labels beside z.
        problem = f"must be given: one head has {size} outputs, as many as the readers have inputs; if it writes means"
        raise ArgumentError("latent_dim", f"{problem} and log-variances, give its layout too")
    return size


def _with_layout(slot: Slot, layout: Layout | None, size: int) -> Slot:
    if size < 1 or slot.width % size:
        raise ArgumentError("latent_dim", f"does not fit: {slot} has {slot.width} outputs, no multiple of {size}")
    quantities = slot.width // size
    if quantities > 1 and layout is None:
        problem = f"has {slot.width} outputs for a latent size of {size}: give its layout, as in"
        raise ArgumentError(slot.label, f'{problem} aldvae.Head(module, layout="blocks") or "interleaved"')
    return replace(slot, quantities=quantities, interleaved=layout == "interleaved")


def _head(head: Head, label: str) -> Slot:
    module = _plain(head.module, label)
    if isinstance(module, nn.Linear):
        return _slot(label, module, [("weight", 0), ("bias", 0)], "out_features")
    if isinstance(module, _ConvNd):
        dim = 1 if isinstance(module, _ConvTransposeNd) else 0
        return _slot(label, module, [("weight", dim), ("bias", 0)], "out_channels")
    raise TypeError(
        f"{label} must be nn.Linear, a convolution or a transposed convolution, not {type(module).__name__}"
    )


def _reader(reader: Reader, label: str) -> Slot:
    module = _plain(reader.module, label)
    if isinstance(module, nn.Linear):
        return _slot(label, module, [("weight", 1)], "in_features", reader.start or 0)
    if isinstance(module, _ConvNd):
        dim = 0 if isinstance(module, _ConvTransposeNd) else 1
        return _slot(label, module, [("weight", dim)], "in_channels", reader.start or 0)
    if isinstance(module, nn.RNNBase):
        names = ["weight_ih_l0", *(["weight_ih_l0_reverse"] if module.bidirectional else [])]
        return _slot(label, module, [(name, 1) for name in names], "input_size", reader.start or 0)
    if isinstance(module, nn.RNNCellBase):
        return _slot(label, module, [("weight_ih", 1)], "input_size", reader.start or 0)
    allowed = "nn.Linear, a convolution, a transposed convolution, GRU, LSTM, RNN or a cell of these"
    raise TypeError(f"{label} must be {allowed}, not {type(module).__name__}")


def _along(item: Along, label: str, size: int) -> Slot:
    if isinstance(item, tuple):
        slot = _named(item, label, size)
    elif isinstance(item, nn.Module):
        slot = _norm(_plain(item, label), label)
    else:
        raise TypeError(f'{label} must be a norm layer or a pair (module, "name of its parameter or buffer")')
    if slot.width != size:
        raise ArgumentError(label, f"has {slot.width} entries, but the latent size is {size}")
    return slot


def _norm(module: nn.Module, label: str) -> Slot:
    names = ("weight", "bias", "running_mean", "running_var")
    places = [(name, 0) for name in names if getattr(module, name, None) is not None]
    if isinstance(module, _NormBase):
        return _slot(label, module, places, "num_features")
    if isinstance(module, nn.PReLU):
        return _slot(label, module, places, "num_parameters")
    if isinstance(module, nn.LayerNorm | nn.RMSNorm) and len(module.normalized_shape) == 1:
        return _slot(label, module, places, "normalized_shape")
    allowed = "a batch, instance or layer norm of one dimension, or a pair (module, 'name')"
    raise TypeError(f"{label} must be {allowed}, not {type(module).__name__}")


def _named(item: tuple[nn.Module, str] | tuple[nn.Module, str, int], label: str, size: int) -> Slot:
    module, name = _unwrapped(item[0]), item[1]
    value = getattr(module, name, None)
    if not isinstance(value, Tensor) or not (name in module._parameters or name in module._buffers):
        raise ArgumentError(label, f"must name a parameter or buffer; {type(module).__name__} has none called {name!r}")
    dims = [item[2]] if len(item) == 3 else [dim for dim, length in enumerate(value.shape) if length == size]
    if len(dims) != 1:
        problem = f"has the shape {tuple(value.shape)}, in which {len(dims)} dimensions have {size} entries"
        raise ArgumentError(label, f'{problem}; say which one, as in (module, "{name}", 0)')
    return Slot(label, module, ((name, dims[0]),))


def _slot(label: str, module: nn.Module, places: Sequence[tuple[str, int]], attribute: str, start: int = 0) -> Slot:
    """Return a slot for those of `places` that the module has; raises `TypeError` for tensors that are computed."""
    tensors = tuple((name, dim) for name, dim in places if getattr(module, name, None) is not None)
    if getattr(module, "groups", 1) != 1:
        raise TypeError(f"{label} must be a convolution with groups=1, not {getattr(module, 'groups', 1)}")
    if any(name not in module._parameters and name not in module._buffers for name, _ in tensors):
        raise TypeError(f"{label} has a weight that is computed from others (pruning, weight_norm); remove that first")
    return Slot(label, module, tensors, attribute, start)


def _unwrapped(module: nn.Module) -> nn.Module:
    """Return the module that `torch.compile` wrapped, or the module itself."""
    return module._modules.get("_orig_mod") or module


def _plain(module: nn.Module, label: str) -> nn.Module:
    """Return a module whose parameters can be replaced; raises `TypeError` with the remedy for others."""
    module = _unwrapped(module)
    if isinstance(module, DataParallel | DistributedDataParallel):
        raise TypeError(f"{label} is wrapped in {type(module).__name__}; give its .module, and wrap it again on_resize")
    if isinstance(module, LazyModuleMixin) and module.has_uninitialized_params():
        raise TypeError(f"{label} is a {type(module).__name__} without weights yet; run one forward pass first")
    if is_parametrized(module):
        raise TypeError(
            f"{label} is a parametrised layer (weight_norm, spectral_norm), which cannot be shrunk; use a plain one"
        )
    return module


def _check_twice(space: LatentSpace) -> None:
    """Refuse a module that is listed twice, and a shared weight that would have to be cut in two ways."""
    layers = [*space.layers, *(slot.module for slot in space.along if slot.attribute)]
    if len({id(layer) for layer in layers}) < len(layers):
        raise ValueError("a layer is listed twice; list it once, though it is used twice")
    cuts: dict[int, tuple[object, ...]] = {}
    for slot, name, dim in space.tensors():
        cut = (dim, slot.start, slot.quantities, slot.interleaved)
        if cuts.setdefault(id(getattr(slot.module, name)), cut) != cut:
            raise ValueError(f"{slot} shares its {name} with another slot that is cut elsewhere; untie the two")
