"""Copies of a model and of its optimisers' state, to undo a removal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Optimizer

from aldvae.compression.optimizers import replace_in_optimizer


@dataclass(frozen=True)
class Snapshot:
    """Copies of the parameters of some modules and of all others that the optimisers train, with the state for them.

    `values` are the parameters, `states` what each optimiser in turn holds for each of them, and `buffers` those of the
    modules, such as the running means of a batch normalisation.
    """

    values: list[Tensor]
    states: list[dict[str, object]]
    buffers: list[Tensor] = field(default_factory=list)

    @classmethod
    def take(
        cls, layers: Sequence[nn.Module], optimizers: Sequence[Optimizer], model: Sequence[nn.Module] = ()
    ) -> Snapshot:
        """Copy the present parameters, states and buffers.

        `layers` are the modules whose own tensors a removal replaces, `model` others whose buffers are copied, with
        those of the modules inside them.
        """
        parameters = [parameter for _, _, parameter in _parameters(layers, optimizers)]
        states = [optimizer.state.get(p, {}) for optimizer in optimizers for p in parameters]
        return cls(
            [parameter.detach().clone() for parameter in parameters],
            [{name: _copy(value) for name, value in state.items()} for state in states],
            [buffer.detach().clone() for _, _, buffer in _buffers(layers, model)],
        )

    @torch.no_grad()
    def restore(
        self, layers: Sequence[nn.Module], optimizers: Sequence[Optimizer], model: Sequence[nn.Module] = ()
    ) -> None:
        """Restore all that was copied; `layers` get new tensors of the shapes they had."""
        places = _parameters(layers, optimizers)
        new: dict[Tensor, nn.Parameter] = {}
        for (layer, name, parameter), value in zip(places, self.values, strict=True):
            if parameter not in new:
                new[parameter] = _restored(layer, parameter, value)
            if layer is not None:
                setattr(layer, name, new[parameter])
        states = iter(self.states)
        for optimizer in optimizers:
            for (_, _, parameter), state in zip(places, states, strict=False):
                current = replace_in_optimizer(optimizer, parameter, new[parameter])
                if state:
                    copies = {key: _copy(part, current.get(key)) for key, part in state.items()}
                    optimizer.state[new[parameter]] = copies
        # A checkpoint of version 0.1.0 has no buffers.
        for (module, name, buffer), value in zip(_buffers(layers, model), self.buffers, strict=False):
            if buffer.shape == value.shape:
                buffer.copy_(value)
            else:
                setattr(module, name, value.to(buffer.device, copy=True))

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
Place = tuple[nn.Module | None, str, nn.Parameter]


def _restored(layer: nn.Module | None, parameter: nn.Parameter, value: Tensor) -> nn.Parameter:
    if layer is None:
        parameter.copy_(value)
        return parameter
    return nn.Parameter(value.to(parameter.device, copy=True), requires_grad=parameter.requires_grad)


def _parameters(layers: Sequence[nn.Module], optimizers: Sequence[Optimizer]) -> list[Place]:
    """Return the parameters of `layers`, then the optimisers' others, in an order that a removal does not change."""
    places: list[Place] = []
    for layer in layers:
        places += [(layer, name, parameter) for name, parameter in layer.named_parameters(recurse=False)]
    seen = {id(parameter) for _, _, parameter in places}
    for optimizer in optimizers:
        for group in optimizer.param_groups:
            others = [parameter for parameter in group["params"] if id(parameter) not in seen]
            places += [(None, "", parameter) for parameter in others]
            seen |= {id(parameter) for parameter in others}
    return places


def _buffers(layers: Sequence[nn.Module], model: Sequence[nn.Module]) -> list[tuple[nn.Module, str, Tensor]]:
    """Return the buffers of `layers` and of all modules of `model`, each with its module and name."""
    modules = dict.fromkeys([*layers, *(module for part in model for module in part.modules())])
    return [(module, name, buffer) for module in modules for name, buffer in module.named_buffers(recurse=False)]
