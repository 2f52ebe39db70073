"""Consolidation: turn the latent space to its principal directions, where copies of one factor become one dimension.

A start that is too large often spreads one factor over several dimensions. Each of them then carries information, so
their KL divergences do not tell how many factors there are. The posterior means tell: copies are collinear. Measured in
units of the posterior's noise, the principal directions of the means show how many independent ones there are, and the
two heads and the readers can be rewritten in these directions without changing what the decoder sees of the means.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.compression.surgery import check_optimizer, latent_size, linear_layers, replace_in_optimizer

# State that optimisers keep for a parameter: averages of gradients, and averages of their squares.
_LINEAR_STATE = ("exp_avg", "momentum_buffer")
_SQUARED_STATE = ("exp_avg_sq", "max_exp_avg_sq", "square_avg")


@dataclass(frozen=True)
class LatentStatistics:
    """The posterior over validation samples: `mean` (n_z,) and `covariance` (n_z, n_z) of its means, in float64.

    `variance` (n_z,) is the mean of its variances, the noise that the means are measured in. All lie on the CPU.
    """

    mean: Tensor
    covariance: Tensor
    variance: Tensor

    @classmethod
    def measure(cls, mu: Tensor, log_var: Tensor) -> LatentStatistics:
        """Return the statistics of posterior means and log-variances, each (N, n_z), of N samples."""
        mu = mu.detach().cpu().double()
        mean = mu.mean(0)
        centred = mu - mean
        return cls(mean, centred.T @ centred / len(mu), log_var.detach().cpu().double().exp().mean(0))

    @property
    def information(self) -> Tensor:
        """The information of each principal direction in nats (n_z,), largest first: 0.5 log(1 + signal / noise)."""
        return 0.5 * torch.log1p(self._principal()[0])

    def _principal(self) -> tuple[Tensor, Tensor]:
        """Return signal-to-noise ratios (n_z,), largest first, and the directions as columns (n_z, n_z)."""
        noise = self.variance.rsqrt()
        ratios, directions = torch.linalg.eigh(self.covariance * noise[:, None] * noise)
        return ratios.flip(0).clamp(min=0), directions.flip(1)

    def scores(self, mu: Tensor) -> Tensor:
        """Return posterior means (N, n_z) along the principal directions, in units of the noise: (N, n_z), float64."""
        centred = mu.detach().cpu().double() - self.mean
        return centred * self.variance.rsqrt() @ self._principal()[1]

    def basis(self, keep: Sequence[int]) -> Basis:
        """Return the change of basis to the principal directions at the k positions `keep`, 0 being the first."""
        ratios, directions = self._principal()
        index = torch.tensor(keep, dtype=torch.long)
        scale, directions = (1 + ratios[index]).rsqrt(), directions[:, index]
        forward = scale[:, None] * directions.T * self.variance.rsqrt()
        backward = self.variance.sqrt()[:, None] * directions / scale
        log_noise = 2 * scale.log() - directions.T.square() @ self.variance.log()
        return Basis(forward, backward, directions.T.square(), log_noise, self.mean)


@dataclass(frozen=True)
class Basis:
    """A change of basis from n_z to k dimensions.

    New means are `forward` (k, n_z) times the old ones less `mean` (n_z,); `backward` (n_z, k) undoes that. New
    log-variances are `mixing` (k, n_z) times the old ones, plus `log_noise` (k,): the variance of a direction is the
    weighted geometric mean of the variances that it mixes. Over the samples, each new dimension has mean 0 and, with
    its noise, variance 1, like the prior.
    """

    forward: Tensor
    backward: Tensor
    mixing: Tensor
    log_noise: Tensor
    mean: Tensor


@dataclass(frozen=True)
class _Change:
    """The new `value` of a parameter; its gradient g becomes `left` @ g @ `right` (None: the identity)."""

    layer: nn.Linear
    name: str
    value: Tensor
    left: Tensor | None = None
    right: Tensor | None = None

    def carry(self, gradient: Tensor, squared: bool) -> Tensor:
        """Return an average of gradients in the new basis, or of their squares if `squared`."""
        carried = _double(gradient)
        if self.left is not None:
            carried = (self.left.square() if squared else self.left) @ carried
        if self.right is not None:
            carried = carried @ (self.right.square() if squared else self.right)
        return carried.to(gradient).contiguous()


@torch.no_grad()
def consolidate(
    *,
    mu: nn.Module,
    log_var: nn.Module,
    readers: Sequence[nn.Module],
    statistics: LatentStatistics,
    keep: int | Sequence[int] | None = None,
    optimizer: torch.optim.Optimizer | None = None,
) -> None:
    """Rewrite the latent space in its principal directions, in place.

    `keep` says which: the first so many, those at these positions (0 is the one with most information), or None: all.

    `mu` and `log_var` are the heads that write means and log-variances (n_z outputs each), `readers` the layers that
    read the latent vector (n_z inputs each). With all directions kept, the readers return the same for the means as
    before. The noise changes: a direction's log-variance is a weighted mean of the old ones. Directions that are not
    kept are removed. The layers get new parameters, whose gradients are None, and `optimizer` trains these. Its
    averages of gradients and of their squares follow the change of basis approximately. Call it between two steps.

    Raises `TypeError` for layers other than plain `nn.Linear`; `ValueError` for layers without bias, for statistics of
    another size, for a `keep` of fewer than 2 or of other directions than there are, and for an optimiser whose state
    cannot follow.
    """
    heads, readers = linear_layers([mu, log_var]), linear_layers(readers)
    size = latent_size(heads, readers)
    if keep is None or isinstance(keep, int):
        keep = range(size if keep is None else keep)
    _check(heads, readers, size, keep, statistics)
    changes = _changes(heads, readers, statistics.basis(keep))
    if optimizer is not None:
        check_optimizer(optimizer, [getattr(change.layer, change.name) for change in changes])
        _check_state(optimizer, changes)
    for change in changes:
        _apply(change, optimizer)
    for layer in (*heads, *readers):
        layer.out_features, layer.in_features = layer.weight.shape


def _check(
    heads: Sequence[nn.Linear],
    readers: Sequence[nn.Linear],
    size: int,
    keep: Sequence[int],
    statistics: LatentStatistics,
) -> None:
    if any(head.out_features != size for head in heads):
        raise ValueError(f"mu and log_var must have {size} outputs each, as many as the readers have inputs")
    if any(layer.bias is None for layer in (*heads, *readers)):
        raise ValueError("mu, log_var and readers need a bias, which takes up the mean of the latent space")
    if statistics.covariance.shape != (size, size):
        raise ValueError(f"the statistics are those of {len(statistics.mean)} dimensions, not of {size}")
    if not SMALLEST_DIM <= len(keep) <= size:
        raise ValueError(f"keep must be {SMALLEST_DIM} to {size} directions, not {len(keep)}")
    if len(set(keep)) < len(keep) or not 0 <= min(keep) <= max(keep) < size:
        raise ValueError(f"keep must be different positions from 0 to {size - 1}, not {list(keep)}")


def _changes(heads: Sequence[nn.Linear], readers: Sequence[nn.Linear], basis: Basis) -> list[_Change]:
    mu, log_var = heads
    back, mix, ahead = basis.backward.T, basis.mixing, basis.forward.T
    changes = [
        _Change(mu, "weight", basis.forward @ _double(mu.weight), left=back),
        _Change(mu, "bias", basis.forward @ (_double(mu.bias) - basis.mean), left=back),
        _Change(log_var, "weight", mix @ _double(log_var.weight), left=mix),
        _Change(log_var, "bias", mix @ _double(log_var.bias) + basis.log_noise, left=mix),
    ]
    for reader in readers:
        weight = _double(reader.weight)
        changes.append(_Change(reader, "weight", weight @ basis.backward, right=ahead))
        changes.append(_Change(reader, "bias", _double(reader.bias) + weight @ basis.mean))
    return changes


def _double(tensor: Tensor) -> Tensor:
    """Return a copy to compute with: float64, on the CPU, since Apple's GPUs have none."""
    return tensor.detach().cpu().double()


def _check_state(optimizer: torch.optim.Optimizer, changes: Sequence[_Change]) -> None:
    for change in changes:
        parameter = getattr(change.layer, change.name)
        for name, value in optimizer.state.get(parameter, {}).items():
            shaped = isinstance(value, Tensor) and value.ndim > 0
            if shaped and name not in (*_LINEAR_STATE, *_SQUARED_STATE):
                raise ValueError(f"{type(optimizer).__name__} keeps {name}, which cannot follow a change of basis")


def _apply(change: _Change, optimizer: torch.optim.Optimizer | None) -> None:
    old: nn.Parameter = getattr(change.layer, change.name)
    new = nn.Parameter(change.value.to(old), requires_grad=old.requires_grad)
    setattr(change.layer, change.name, new)
    if optimizer is not None:
        state = replace_in_optimizer(optimizer, old, new)
        if state:
            optimizer.state[new] = {name: _follow(change, name, value) for name, value in state.items()}


def _follow(change: _Change, name: str, value: object) -> object:
    """Return the optimiser's state `name` in the new basis; state of another shape, such as a step count, as it is."""
    if not isinstance(value, Tensor) or value.ndim == 0:
        return value
    return change.carry(value, squared=name in _SQUARED_STATE)
