"""Finding modules by their dotted names, and attributes that hold the latent size."""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping, Sequence
from typing import Any

from torch import nn

from aldvae.utils.errors import ArgumentError, unknown_message

_MISSING = object()


def missing_package(package: str, extra: str) -> str:
    """Return the message for an integration whose package cannot be imported."""
    return f"{package} is not installed: pip install 'aldvae[{extra}]'"


def find_modules(argument: str, root: nn.Module, names: Sequence[str]) -> list[nn.Module]:
    """Return the modules of `root` called `names`, such as ``"decoder.0"``; raises `ArgumentError` for others."""
    modules = dict(root.named_modules())
    modules.pop("")
    for name in names:
        if name not in modules:
            layers = [key for key, module in modules.items() if isinstance(module, nn.Linear)]
            problem = unknown_message(name, layers)
            raise ArgumentError(argument, f"must be names of modules of {type(root).__name__}: {problem}")
    return [modules[name] for name in names]


def find_value(root: object, name: str) -> Any:
    """Return the attribute of `root` with the dotted `name`; raises `ArgumentError` if there is none."""
    value = _get(root, name)
    if value is _MISSING:
        raise ArgumentError("beta", f"names neither a logged metric nor an attribute of {type(root).__name__}: {name}")
    return value


class SizeAttributes:
    """The attributes and hyper-parameters that hold the latent size, and follow it.

    `names` are dotted, such as ``"latent_dim"`` or ``"decoder.latent_dim"``. A name may stand for an attribute of
    `root`, for an entry of its hyper-parameters (`root.hparams`), or for both.
    """

    def __init__(self, root: nn.Module, names: Sequence[str], size: int) -> None:
        """Find them; raises `ArgumentError` for a name that is neither, or whose value is not `size`."""
        self.root, self.names = root, list(names)
        for name in self.names:
            values = [value for value in (_get(place, name) for place in self._places) if value is not _MISSING]
            if not values:
                raise ArgumentError("sizes", f"{name} is no attribute or hyper-parameter of {type(root).__name__}")
            if values != [size] * len(values):
                raise ArgumentError("sizes", f"{name} is {values[0]}, but heads and readers have {size} dimensions")
        self.write(size)

    @property
    def _places(self) -> list[object]:
        hparams = getattr(self.root, "hparams", None)
        return [self.root] if hparams is None else [self.root, hparams]

    def write(self, size: int) -> None:
        """Write `size` to all of them."""
        for name in self.names:
            for place in self._places:
                if _get(place, name) is not _MISSING:
                    _set(place, name, size)


def _get(place: object, name: str) -> Any:
    for part in name.split("."):
        place = place.get(part, _MISSING) if isinstance(place, Mapping) else getattr(place, part, _MISSING)
        if place is _MISSING:
            break
    return place


def _set(place: object, name: str, value: int) -> None:
    path, _, last = name.rpartition(".")
    owner = _get(place, path) if path else place
    if isinstance(owner, MutableMapping):
        owner[last] = value
    else:
        try:
            setattr(owner, last, value)
        except AttributeError:
            raise ArgumentError("sizes", f"{name} cannot be set; name the attribute that it is computed from") from None
