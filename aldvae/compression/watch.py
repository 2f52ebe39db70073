"""The posterior of validation samples, taken from the heads while the user's own code validates."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Literal, NamedTuple, TypeAlias

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.nn.modules.conv import _ConvNd

from aldvae.compression.information import Directions
from aldvae.compression.slots import LatentSpace, Slot
from aldvae.utils.errors import ArgumentError, unknown_message

# What the second head writes, or a function from its output to the standard deviation.
Scale: TypeAlias = Literal["log_var", "log_std", "softplus"] | Callable[[Tensor], Tensor]

_LOG_VARIANCES: dict[object, Callable[[Tensor], Tensor]] = {
    "log_var": lambda output: output,
    "log_std": lambda output: 2 * output,
    "softplus": lambda output: 2 * F.softplus(output).log(),
}


class Posterior(NamedTuple):
    """What is known of the posterior of validation samples.

    `kl` is the KL divergence of each dimension (n_z), means and log-variances are (N, n_z). The scale's head writes
    `power` times the log-variance.
    """

    kl: list[float] | None = None
    mu: Tensor | None = None
    log_var: Tensor | None = None
    power: float = 1.0

    def override(self, kl: Sequence[float] | Tensor | None, mu: Tensor | None, log_var: Tensor | None) -> Posterior:
        """Return what the caller gives, and this where nothing is given."""
        values = kl.tolist() if isinstance(kl, Tensor) else kl
        given = None if values is None else [float(value) for value in values]
        if mu is not None or log_var is not None:
            return Posterior(given, mu, log_var)
        return self if given is None else self._replace(kl=given)

    def check_size(self, latent_dim: int) -> None:
        """Raise `ArgumentError` for a posterior of another size: then the heads are not what they were taken for."""
        if self.kl is not None and len(self.kl) != latent_dim:
            raise ArgumentError(
                "kl", f"must have {latent_dim} values, the latent size of the heads, not {len(self.kl)}"
            )
        for name, value in (("mu", self.mu), ("log_var", self.log_var)):
            if value is not None and (value.ndim != 2 or value.shape[1] != latent_dim):
                raise ArgumentError(name, f"must be (N, {latent_dim}), not {tuple(value.shape)}")

    def directions(self, beta: float) -> Directions | None:
        """Return the principal directions, None without samples."""
        if self.mu is None or self.log_var is None:
            return None
        return Directions.measure(self.mu, self.log_var, beta)


class Watch:
    """Collects what the heads write: means, then scales, from two heads or from one with a layout.

    Where a head writes a map or a sequence, `Posterior.kl` is summed over its positions, each of which counts as a
    sample in `mu` and `log_var`. These are kept only with `keep_samples`. Raises `ArgumentError` for other heads.
    """

    def __init__(self, space: LatentSpace, scale: Scale, *, keep_samples: bool) -> None:
        """See the class."""
        if [head.quantities for head in space.heads] not in ([1, 1], [2]):
            raise ArgumentError("heads", "must be two, means and scales, or one of both with a layout, to be watched")
        if not callable(scale) and scale not in _LOG_VARIANCES:
            raise ArgumentError("scale", unknown_message(str(scale), [str(name) for name in _LOG_VARIANCES]))
        self.space, self.scale, self.keep_samples = space, scale, keep_samples
        self._outputs: list[list[Tensor]] = [[], []]
        self._samples: list[tuple[Tensor, Tensor]] = []
        self._kl, self._count = torch.zeros(space.size, dtype=torch.float64), 0

    @contextmanager
    def hooks(self) -> Iterator[None]:
        """Listen to the heads."""
        handles = [
            head.module.register_forward_hook(self._hook(head, index)) for index, head in enumerate(self.space.heads)
        ]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def _hook(self, head: Slot, index: int) -> Callable[[nn.Module, object, Tensor], None]:
        @torch.no_grad()
        def hook(_: nn.Module, __: object, output: Tensor) -> None:
            entries = by_samples(head.module, output.detach())
            for quantity, positions in enumerate(head.positions(self.space.size).T):
                self._outputs[index + quantity].append(entries[..., positions.to(entries.device)])
            while all(self._outputs):
                self._take(self._outputs[0].pop(0), self._outputs[1].pop(0))

        return hook

    def _take(self, mu: Tensor, output: Tensor) -> None:
        """Take in means and scales, each (B, ..., n_z)."""
        log_var = _LOG_VARIANCES[self.scale](output) if isinstance(self.scale, str) else 2 * self.scale(output).log()
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var)
        self._kl += kl.double().flatten(0, -2).sum(0).cpu()
        self._count += len(mu)
        if self.keep_samples:
            self._samples.append((mu.flatten(0, -2).cpu(), log_var.flatten(0, -2).cpu()))

    def posterior(self) -> Posterior:
        """Return what was collected; raises `ArgumentError` if the heads were not called, or not equally often."""
        if not self._count or any(self._outputs):
            problem = "did not run, or not equally often, within watch; watch a validation by the model itself"
            raise ArgumentError("heads", f"{problem}, not by a compiled copy")
        kl = (self._kl / self._count).tolist()
        power = 0.5 if self.scale == "log_std" else 1.0
        if not self._samples:
            return Posterior(kl, power=power)
        mu, log_var = (torch.cat(parts) for parts in zip(*self._samples, strict=True))
        return Posterior(kl, mu, log_var, power)


def by_samples(module: nn.Module, value: Tensor) -> Tensor:
    """Return inputs or outputs of `module` as (B, ..., features or channels), B = 1 if there is no batch."""
    spatial = len(module.kernel_size) if isinstance(module, _ConvNd) else 0
    if value.ndim == spatial + 1:
        value = value[None]
    return value.movedim(value.ndim - 1 - spatial, -1)
