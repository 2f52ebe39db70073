"""What optimisers hold for parameters that a surgery replaces."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from torch import Tensor, nn
from torch.optim import LBFGS, Optimizer


def optimizer_list(optimizer: Optimizer | Sequence[Optimizer] | None) -> list[Optimizer]:
    """Return one, several or no optimisers as a list, each once."""
    if optimizer is None:
        return []
    if isinstance(optimizer, Optimizer):
        return [optimizer]
    return list(dict.fromkeys(optimizer))


def check_optimizers(optimizers: Sequence[Optimizer], parameters: Sequence[nn.Parameter]) -> None:
    """Raise `ValueError` if no optimiser holds one of `parameters`, or if a state cannot follow a surgery on them.

    Without any optimiser there is nothing to check.
    """
    if any(isinstance(optimizer, LBFGS) for optimizer in optimizers):
        raise ValueError("LBFGS keeps its own list of parameters; use an optimiser such as Adam, AdamW or SGD")
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    for parameter in parameters:
        if optimizers and parameter.requires_grad and id(parameter) not in held:
            raise ValueError("the optimizer does not hold the parameters of these heads and readers")
        for optimizer in optimizers:
            _check_state(optimizer, parameter)


def _check_state(optimizer: Optimizer, parameter: nn.Parameter) -> None:
    for name, value in optimizer.state.get(parameter, {}).items():
        if isinstance(value, Tensor) and value.ndim and value.shape != parameter.shape:
            raise ValueError(
                f"{type(optimizer).__name__} keeps {name} of shape {tuple(value.shape)} for a parameter of shape "
                f"{tuple(parameter.shape)}, which cannot be cut to the kept neurons"
            )


def replace_in_optimizer(optimizer: Optimizer, old: nn.Parameter, new: nn.Parameter) -> dict[str, object]:
    """Replace `old` by `new` in the groups of `optimizer`; remove the state for `old` and return it."""
    for group in optimizer.param_groups:
        group["params"] = [new if parameter is old else parameter for parameter in group["params"]]
    return dict(optimizer.state.pop(old, {}))


def carry_over(
    optimizers: Sequence[Optimizer], old: nn.Parameter, new: nn.Parameter, follow: Callable[[str, Tensor], Tensor]
) -> None:
    """Replace `old` by `new`, and its state by what `follow` makes of each tensor, given its name.

    State of another shape than the parameter's, such as a step count, stays as it is.
    """
    for optimizer in optimizers:
        state = replace_in_optimizer(optimizer, old, new)
        if state:
            optimizer.state[new] = {
                name: follow(name, value) if isinstance(value, Tensor) and value.shape == old.shape else value
                for name, value in state.items()
            }
