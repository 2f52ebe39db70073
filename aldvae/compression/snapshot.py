"""Copies of a model and of its optimiser's state, to undo a removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor, nn

from aldvae.compression.surgery import replace_in_optimizer


@dataclass(frozen=True)
class Snapshot:
    """Copies of the parameters of some layers and of all others that the optimiser trains, with its state for them.

    `values` are the parameters, `states` what the optimiser holds for each. Buffers, such as the running means of a
    batch normalisation, are not copied.
    """

    values: list[Tensor]
    states: list[dict[str, object]]

    @classmethod
    def take(cls, layers: Sequence[nn.Linear], optimizer: torch.optim.Optimizer | None) -> Snapshot:
        """Copy the current parameters and states."""
        parameters = [parameter for _, _, parameter in _parameters(layers, optimizer)]
        states = [optimizer.state.get(p, {}) if optimizer is not None else {} for p in parameters]
        return cls(
            [parameter.detach().clone() for parameter in parameters],
            [{name: _copy(value) for name, value in state.items()} for state in states],
        )

    @torch.no_grad()
    def restore(self, layers: Sequence[nn.Linear], optimizer: torch.optim.Optimizer | None) -> None:
        """Restore the parameters and the optimiser's state; `layers` get new parameters of the shapes they had."""
        slots = _parameters(layers, optimizer)
        for (layer, name, parameter), value, state in zip(slots, self.values, self.states, strict=True):
            restored = parameter
            if layer is None:
                parameter.copy_(value)
            else:
                restored = nn.Parameter(value.to(parameter.device, copy=True), requires_grad=parameter.requires_grad)
                setattr(layer, name, restored)
            if optimizer is not None:
                current = replace_in_optimizer(optimizer, parameter, restored)
                if state:
                    optimizer.state[restored] = {key: _copy(part, current.get(key)) for key, part in state.items()}
        for layer in layers:
            layer.out_features, layer.in_features = layer.weight.shape

    def to_state(self) -> dict[str, object]:
        """Return the copies as lists and dictionaries of tensors and numbers."""
        return asdict(self)

    @classmethod
    def from_state(cls, state: Mapping[str, Any]) -> Snapshot:
        """Return the snapshot of which `to_state` made `state`."""
        return cls(**state)


def _copy(value: object, like: object = None) -> object:
    """Copy a tensor to the device of `like`: a snapshot from a file may lie on another device than the model."""
    if not isinstance(value, Tensor):
        return value
    return value.detach().to(like.device if isinstance(like, Tensor) else value.device, copy=True)


# A parameter, and if it belongs to one of the layers, the layer and the parameter's name in it.
Slot = tuple[nn.Linear | None, str, nn.Parameter]


def _parameters(layers: Sequence[nn.Linear], optimizer: torch.optim.Optimizer | None) -> list[Slot]:
    """Return the parameters of `layers`, then the optimiser's others, in an order that a removal does not change."""
    slots: list[Slot] = []
    for layer in layers:
        slots += [(layer, name, parameter) for name, parameter in layer.named_parameters(recurse=False)]
    in_layers = {id(parameter) for _, _, parameter in slots}
    groups = optimizer.param_groups if optimizer is not None else []
    return slots + [
        (None, "", parameter) for group in groups for parameter in group["params"] if id(parameter) not in in_layers
    ]
