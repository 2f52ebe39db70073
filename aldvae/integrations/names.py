"""Slots by the dotted names of modules, and attributes that hold the latent size."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any, TypeAlias

from torch import Tensor, nn

from aldvae.compression.layers import latent_space
from aldvae.compression.slots import Along, Head, LatentSpace, Layout, Reader
from aldvae.compression.surgery import grow, shrink
from aldvae.utils.errors import ArgumentError, unknown_message

# A module, or a module and its layout; a module, or a module and the input at which z begins (`Head`, `Reader`).
HeadName: TypeAlias = str | tuple[str, Layout]
ReaderName: TypeAlias = str | tuple[str, int]

_MISSING: Any = object()


def missing_package(package: str, extra: str) -> str:
    """Return the message for an integration whose package cannot be imported."""
    return f"{package} is not installed: pip install 'aldvae[{extra}]'"


class NamedSlots:
    """The slots of the module `root` by their names, such as ``"decoder.0"``, and the attributes that hold their size.

    `along` names norm layers, parameters and buffers. `sizes` names attributes of `root`, entries of its
    hyper-parameters (`root.hparams`), or both; the first gives the latent size where layers leave it open. Raises
    `ArgumentError` for a name that does not exist, and `TypeError` or `ValueError` for slots that do not fit together.
    """

    def __init__(
        self,
        root: nn.Module,
        heads: Sequence[HeadName],
        readers: Sequence[ReaderName],
        along: Sequence[str] = (),
        sizes: Sequence[str] = (),
    ) -> None:
        """Find them."""
        self.root, self.sizes = root, list(sizes)
        self._heads = [(name, None) if isinstance(name, str) else name for name in heads]
        pairs = [(name, None) if isinstance(name, str) else name for name in readers]
        self.heads = [Head(_module(root, "heads", name), layout) for name, layout in self._heads]
        self.readers = [Reader(_module(root, "readers", name), start) for name, start in pairs]
        self.along = [_entry(root, name) for name in along]
        self.space = self._space()
        self._check_sizes()

    def _space(self) -> LatentSpace:
        try:
            return latent_space(self.heads, self.readers, self.along)
        except ArgumentError as error:
            if not self.sizes and "latent_dim" in str(error):
                problem = f"{error.problem}; let sizes name the attribute that holds it"
                raise ArgumentError(error.argument, problem) from error
            if not self.sizes:
                raise
        return latent_space(self.heads, self.readers, self.along, self._values(self.sizes[0])[0])

    def _check_sizes(self) -> None:
        size = self.space.size
        for name in self.sizes:
            values = self._values(name)
            if values != [size] * len(values):
                raise ArgumentError("sizes", f"{name} is {values[0]}, but heads and readers have {size} dimensions")
        self.write_size(size)

    def _values(self, name: str) -> list[Any]:
        values = [value for value in (find_value(place, name) for place in self._places) if value is not _MISSING]
        if not values:
            raise ArgumentError("sizes", f"{name} is no attribute or hyper-parameter of {type(self.root).__name__}")
        return values

    @property
    def _places(self) -> list[object]:
        hparams = getattr(self.root, "hparams", None)
        return [self.root] if hparams is None else [self.root, hparams]

    def write_size(self, size: int) -> None:
        """Write `size` to the attributes and hyper-parameters."""
        for name in self.sizes:
            for place in self._places:
                if find_value(place, name) is not _MISSING:
                    _set(place, name, size)

    def fit_to(self, weights: Mapping[str, Tensor], prefix: str = "") -> None:
        """Give the slots the size that they have in `weights`, which are about to be loaded; their values are open."""
        head, now = self.space.heads[0], self.space.size
        tensor, dim = head.tensors[0]
        name = f"{prefix}{self._heads[0][0]}.{tensor}"
        if name not in weights:
            return
        size = weights[name].shape[dim] // head.quantities
        if size < now:
            shrink(self.space, range(size, now), ())
        elif size > now:
            grow(self.space, size - now)
        self.write_size(size)


def find_value(place: object, name: str, default: Any = _MISSING) -> Any:
    """Return the attribute, or the entry of a dictionary, with the dotted `name`; `default` if there is none."""
    for part in name.split("."):
        place = place.get(part, _MISSING) if isinstance(place, Mapping) else getattr(place, part, _MISSING)
        if place is _MISSING:
            return default
    return place


def _set(place: object, name: str, value: int) -> None:
    path, _, last = name.rpartition(".")
    owner = find_value(place, path) if path else place
    if isinstance(owner, MutableMapping):
        owner[last] = value
        return
    try:
        setattr(owner, last, value)
    except AttributeError:
        raise ArgumentError("sizes", f"{name} cannot be set; name the attribute that it is computed from") from None


def _module(root: nn.Module, argument: str, name: str) -> nn.Module:
    modules: dict[str, nn.Module] = {key: module for key, module in root.named_modules() if key}
    if name not in modules:
        leaves = [key for key, module in modules.items() if not list(module.children()) and list(module.parameters())]
        problem = unknown_message(name, leaves)
        raise ArgumentError(argument, f"must be names of modules of {type(root).__name__}: {problem}")
    return modules[name]


def _entry(root: nn.Module, name: str) -> Along:
    path, _, last = name.rpartition(".")
    value = find_value(root, name)
    if isinstance(value, nn.Module):
        module: nn.Module = value
        return module
    if not isinstance(value, Tensor):
        problem = f"{name} is no module, parameter or buffer of {type(root).__name__}"
        raise ArgumentError("along", f"must be names: {problem}")
    return root.get_submodule(path), last
