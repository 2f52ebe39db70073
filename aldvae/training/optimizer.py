"""Adam without support for `torch.compile`, whose modules take as long to import as torch itself."""

from __future__ import annotations

import inspect

import torch
from torch import Tensor
from torch.optim import Adam


class EagerAdam(Adam):
    """Adam that does not import `torch._dynamo`; numbers and state are those of Adam.

    torch wraps these methods in functions that import it at the first call. The methods themselves do not need it. If a
    version of torch does not wrap them, this class is Adam.
    """


for _name in ("add_param_group", "zero_grad", "state_dict", "load_state_dict"):
    setattr(EagerAdam, _name, inspect.unwrap(getattr(Adam, _name)))
EagerAdam.step = torch.no_grad()(inspect.unwrap(Adam.step))  # type: ignore[method-assign]


def make_optimizer(parameters: list[Tensor], lr: float, device: torch.device) -> Adam:
    """Return the paper's optimiser, Adam with AMSGrad."""
    return EagerAdam(parameters, lr=lr, amsgrad=True, fused=device.type in ("cpu", "cuda"))
