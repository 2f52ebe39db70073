"""Taking the posterior of a validation pass from the heads, by hooks: the caller's loop need not hand it over."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from aldvae.utils.errors import ArgumentError


class Posterior(NamedTuple):
    """Posterior means `mu` and log-variances `log_var`, each (N, n_z), float32 or float64, on the CPU."""

    mu: Tensor
    log_var: Tensor

    @property
    def kl(self) -> Tensor:
        """The KL divergence of each dimension from a standard normal prior, in nats per sample (n_z,)."""
        return 0.5 * (self.mu.square() + self.log_var.exp() - 1 - self.log_var).mean(0)


class PosteriorRecorder:
    """Records what the `heads` write between `start` and `stop`, of the first `max_samples` samples.

    `heads` are two modules, means first, then log-variances, or one that writes both, to be split with `chunk`.
    """

    def __init__(self, heads: Sequence[nn.Module], max_samples: int) -> None:
        """Record nothing yet; raises `ArgumentError` for another number of heads or fewer than 2 samples."""
        if len(heads) not in (1, 2):
            raise ArgumentError("heads", f"must be one or two modules, not {len(heads)}")
        if max_samples < 2:
            raise ArgumentError("max_samples", f"must be 2 or more, not {max_samples}")
        self.heads, self.max_samples = list(heads), max_samples
        self.paused = False
        self._batches: list[list[Tensor]] = [[] for _ in heads]
        self._hooks: list[RemovableHandle] = []

    def start(self) -> None:
        """Forget what was recorded, and record from now on."""
        self.stop()
        self.paused = False
        for head, batches in zip(self.heads, self._batches, strict=True):
            self._hooks.append(head.register_forward_hook(self._hook(batches)))

    def stop(self) -> Posterior | None:
        """Stop recording; return what was recorded, None if there was nothing."""
        for hook in self._hooks:
            hook.remove()
        self._hooks.clear()
        written = [torch.cat(batches)[: self.max_samples] for batches in self._batches if batches]
        for batches in self._batches:
            batches.clear()
        if len(written) < len(self.heads):
            return None
        return Posterior(*written) if len(written) == 2 else Posterior(*written[0].chunk(2, dim=1))

    def _hook(self, batches: list[Tensor]) -> object:
        def record(_module: nn.Module, _inputs: object, output: Tensor) -> None:
            if not self.paused and sum(map(len, batches)) < self.max_samples:
                batches.append(_to_float(output).flatten(0, -2))

        return record


def _to_float(output: Tensor) -> Tensor:
    """Return a copy on the CPU, from half precision as float32."""
    output = output.detach().to("cpu", copy=True)
    return output if output.dtype == torch.float64 else output.float()
