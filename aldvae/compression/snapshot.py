"""Keeping a model and what its optimiser knows of it, to return to before a removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aldvae.compression.surgery import replace_in_optimizer


@dataclass(frozen=True)
class Snapshot:
    """Copies of the parameters of some layers and of all that the optimiser trains, with the optimiser's state.

    Buffers, such as the running means of a batch normalisation, are not among them.
    """

    values: list[Tensor]
    states: list[dict[str, Any]]

    @classmethod
    def take(cls, layers: Sequence[nn.Linear], optimizer: torch.optim.Optimizer | None) -> Snapshot:
        """Copy what is there now."""
        parameters = [parameter for _, _, parameter in _parameters(layers, optimizer)]
        states = [dict(optimizer.state.get(p, {})) if optimizer is not None else {} for p in parameters]
        return cls(
            [parameter.detach().clone() for parameter in parameters],
            [{name: _copy(value) for name, value in state.items()} for state in states],
        )

    @torch.no_grad()
    def bring_back(self, layers: Sequence[nn.Linear], optimizer: torch.optim.Optimizer | None) -> None:
        """Make model and optimiser what they were; `layers` get parameters of their old shapes."""
        slots = list(_parameters(layers, optimizer))
        for (layer, name, parameter), value, state in zip(slots, self.values, self.states, strict=True):
            kept = parameter
            if layer is None:
                parameter.copy_(value)
            else:
                kept = nn.Parameter(value.to(parameter.device, copy=True), requires_grad=parameter.requires_grad)
                setattr(layer, name, kept)
            if optimizer is not None:
                now = replace_in_optimizer(optimizer, parameter, kept)
                if state:
                    optimizer.state[kept] = {key: _copy(part, now.get(key)) for key, part in state.items()}
        for layer in layers:
            layer.out_features, layer.in_features = layer.weight.shape

    def to_state(self) -> dict[str, Any]:
        """Return it as tensors, numbers, lists and dictionaries."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot that `to_state` told."""
        return cls(**state)


def _copy(value: Any, like: Any = None) -> Any:
    """Copy a tensor, to where `like` is; a snapshot out of a file may lie on another device than the model."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().to(like.device if isinstance(like, Tensor) else value.device, copy=True)


Slot = tuple[nn.Linear | None, str, nn.Parameter]


def _parameters(layers: Sequence[nn.Linear], optimizer: torch.optim.Optimizer | None) -> list[Slot]:
    """Return the parameters of `layers`, then the optimiser's others, in an order that a removal does not change."""
    found: list[Slot] = []
    for layer in layers:
        found += [(layer, name, parameter) for name, parameter in layer.named_parameters(recurse=False)]
    known = {id(parameter) for _, _, parameter in found}
    groups = optimizer.param_groups if optimizer is not None else []
    return found + [
        (None, "", parameter) for group in groups for parameter in group["params"] if id(parameter) not in known
    ]
