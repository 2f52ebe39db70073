"""What a dataset is once it is loaded, and how it is cut: a subset, then training and validation samples."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from aldvae.utils.errors import ConfigError

# Subset and split are properties of the dataset, not of a run: every seed trains and is judged on the same samples.
_ORDER_SEED = 0


@dataclass(frozen=True)
class Samples:
    """Samples and, where they have any, their classes `labels` (N,), 0 to len(classes) - 1.

    `x` holds images (N, C, H, W) or video (N, C, T, H, W), as uint8 with 0..255 for [0, 1] or as float32 in [0, 1];
    or vectors (N, D), float32 once they are standardised and float64 before.
    """

    x: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of samples."""
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample."""
        return tuple(self.x.shape[1:])

    @property
    def is_vectors(self) -> bool:
        """Whether the samples are vectors rather than images or video."""
        return self.x.ndim == 2

    @property
    def is_video(self) -> bool:
        """Whether the samples are sequences of frames."""
        return self.x.ndim == 5

    def take(self, positions: Tensor | np.ndarray) -> Samples:
        """Return the samples at `positions`, in that order."""
        index = torch.as_tensor(positions)
        return replace(self, x=self.x[index], labels=None if self.labels is None else self.labels[index])

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}

    def on(self, device: torch.device) -> Tensor:
        """Return `x` on `device`: one copy for all runs that look at these samples."""
        if device not in self._copies:
            self._copies[device] = self.x.to(device)
        return self._copies[device]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the contents, equal for equal samples and labels wherever they come from."""
        digest = hashlib.sha256(str((tuple(self.x.shape), self.x.dtype)).encode())
        for tensor in (self.x, self.labels):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]


def to_float(x: Tensor) -> Tensor:
    """Return stored samples as a network takes them: uint8 0..255 as float32 in [0, 1], float32 as it is."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


class Standardisation(NamedTuple):
    """How vectors were brought to mean 0 and standard deviation 1: x = (raw - `mean`) / `scale`, each (D,)."""

    mean: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Dataset:
    """A named dataset, cut into training and validation samples; vectors are standardised by the training samples."""

    name: str
    train: Samples
    validation: Samples
    standardisation: Standardisation | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W), (C, T, H, W) or (D,)."""
        return self.train.shape

    @cached_property
    def fingerprint(self) -> str:
        """A hash of all samples and labels and of how they are cut."""
        fingerprints = self.train.fingerprint + self.validation.fingerprint
        return hashlib.sha256(fingerprints.encode()).hexdigest()[:16]


def split(name: str, samples: Samples, validation: float, limit: int | None) -> Dataset:
    """Take `limit` of the samples (None: all), hold out the fraction `validation` of them.

    The choice is the same each time. Raises `ConfigError` for a limit that leaves no sample to train or validate on,
    or that is larger than the dataset.
    """
    if limit is not None and limit > len(samples):
        raise ConfigError(
            "limit", f"{limit} is more than the {len(samples)} samples of {name}; leave it out to use all"
        )
    order = np.random.default_rng(_ORDER_SEED).permutation(len(samples))[:limit]
    held_out = round(len(order) * validation)
    if held_out < 1 or held_out > len(order) - 2:
        option = "validation" if limit is None else "limit"
        raise ConfigError(option, f"{len(order)} samples cannot be cut into training and {validation:.0%} validation")
    dataset = Dataset(name, samples.take(order[held_out:]), samples.take(order[:held_out]))
    return _standardise(dataset) if samples.is_vectors else dataset


def _standardise(dataset: Dataset) -> Dataset:
    mean, scale = dataset.train.x.double().mean(0), dataset.train.x.double().std(0)
    if not bool(scale.isfinite().all() and mean.isfinite().all()):
        raise ConfigError("dataset", f"{dataset.name} holds numbers too large to standardise; scale them")
    # The rounding of the mean leaves a constant column a scale that is tiny, not zero.
    constant = (scale <= 1e-12 * mean.abs().clamp(min=1e-300)).nonzero().flatten()
    if len(constant):
        raise ConfigError("dataset", f"{dataset.name}: column {int(constant[0])} (from 0) is constant; remove it")
    train, validation = (
        replace(samples, x=((samples.x - mean) / scale).float()) for samples in (dataset.train, dataset.validation)
    )
    return Dataset(dataset.name, train, validation, Standardisation(mean.float(), scale.float()))


def select_frames(samples: Tensor) -> Tensor:
    """Return video (N, C, T, H, W) as one frame of each, the i-th of T in turn: (N, C, H, W); the rest as it is."""
    if samples.ndim != 5:
        return samples
    sequence = torch.arange(len(samples), device=samples.device)
    return samples[sequence, :, sequence % samples.shape[2]]
