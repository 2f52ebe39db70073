"""A loaded dataset, and its split: an optional subset, then training and validation samples."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import NamedTuple, Protocol, Self

import numpy as np
import torch
from torch import Tensor

from aldvae.utils.errors import ConfigError

# Subset and split do not depend on the seed of a run: all runs train and are evaluated on the same samples.
_ORDER_SEED = 0
_CPU = torch.device("cpu")


class Rows(Protocol):
    """The samples that training and metrics read: a tensor (N, *shape), or what reads them from a file."""

    @property
    def device(self) -> torch.device:
        """Where rows that are read lie."""

    def __len__(self) -> int:
        """The number of rows, N."""

    def __getitem__(self, index: slice | Tensor, /) -> Tensor:
        """Return the rows at `index`."""

    def index_select(self, dim: int, index: Tensor, /) -> Tensor:
        """Return the rows at the positions `index`; `dim` is 0."""

    def split(self, size: int, /) -> Iterable[Tensor]:
        """Return all rows in order, `size` at a time."""


@dataclass(frozen=True)
class Samples:
    """Samples and, for labelled data, their class indices `labels` (N,), from 0 to len(classes) - 1.

    `x` holds images (N, C, H, W) or video (N, C, T, H, W), either uint8 in 0..255, which stands for [0, 1], or float32
    in [0, 1]. Or `x` holds vectors (N, D): float64 as read, float32 once standardised. `columns` are the D names in the
    header of a table; empty for a table without header and for all else.
    """

    x: Tensor
    labels: Tensor | None = None
    classes: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __len__(self) -> int:
        """The number of samples, N."""
        return len(self.x)

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of a sample: (C, H, W), (C, T, H, W) or (D,)."""
        return tuple(self.x.shape[1:])

    @property
    def is_vectors(self) -> bool:
        """Whether the samples are vectors rather than images or video."""
        return self.x.ndim == 2

    @property
    def is_video(self) -> bool:
        """Whether the samples are sequences of frames."""
        return self.x.ndim == 5

    @property
    def kind(self) -> str:
        """What the samples are, in words, such as ``gray images of 28 x 28`` or ``vectors of 30 values``."""
        if self.is_vectors:
            return f"vectors of {self.shape[0]} value{'s' if self.shape[0] > 1 else ''}"
        channels, *frames, height, width = self.shape
        noun = f"videos of {frames[0]} frames" if frames else "images"
        colours = {1: "gray ", 3: "colour "}.get(channels, "")
        more = "" if colours else f" with {channels} channels"
        return f"{colours}{noun} of {height} x {width}{more}"

    @property
    def contrast(self) -> float:
        """How black and white images are: the variance of all values over its maximum, mean (1 - mean); 0 to 1.

        It is that of about a thousand samples, evenly spread. It is 0 for images that are all black or all white.
        """
        rows, chosen = self.on(_CPU), torch.arange(0, len(self), max(1, len(self) // 1000))
        mean, variance = _moments_of_values(rows.index_select(0, part) for part in chosen.split(100))
        largest = float(mean * (1 - mean))
        return max(0.0, float(variance)) / largest if largest > 0 else 0.0

    def take(self, positions: Tensor | np.ndarray) -> Self:
        """Return the samples at `positions`, in that order."""
        index = torch.as_tensor(positions)
        return replace(self, x=self.x[index], labels=None if self.labels is None else self.labels[index])

    @cached_property
    def _copies(self) -> dict[torch.device, Tensor]:
        return {}

    def on(self, device: torch.device) -> Rows:
        """Return `x` on `device`. The copy is made once and shared by all runs on these samples."""
        if device not in self._copies:
            self._copies[device] = self.x.to(device)
        return self._copies[device]

    @cached_property
    def fingerprint(self) -> str:
        """A hash of samples and labels; it does not depend on where they were read from."""
        digest = hashlib.sha256(first_bytes(tuple(self.x.shape), self.x.dtype))
        for tensor in (self.x, self.labels):
            if tensor is not None:
                digest.update(tensor.contiguous().numpy().data)
        return digest.hexdigest()[:16]

    def moments(self) -> Standardisation:
        """Return mean and standard deviation of each column of vectors, float64 (D,)."""
        values = self.x.double()
        return Standardisation(values.mean(0), values.std(0))

    def standardised(self, by: Standardisation) -> Self:
        """Return vectors standardised by these moments, as float32."""
        return replace(self, x=((self.x - by.mean) / by.scale).float())


def first_bytes(shape: tuple[int, ...], dtype: torch.dtype) -> bytes:
    """Return what a fingerprint hashes before the values of a tensor of this shape and type."""
    return str((shape, dtype)).encode()


def to_float(x: Tensor) -> Tensor:
    """Return stored samples as input for a network: uint8 in 0..255 as float32 in [0, 1], float32 unchanged."""
    return x.float() / 255 if x.dtype == torch.uint8 else x


class Standardisation(NamedTuple):
    """Mean and standard deviation of training samples, of which x = (raw - `mean`) / `scale` has 0 and 1.

    Both are (D,) for vectors, which have one for each column, and () for images and video.
    """

    mean: Tensor
    scale: Tensor


@dataclass(frozen=True)
class Dataset:
    """A dataset split into training and validation samples. Vectors are standardised by the training samples."""

    name: str
    train: Samples
    validation: Samples
    standardisation: Standardisation | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one sample: (C, H, W), (C, T, H, W) or (D,)."""
        return self.train.shape

    @cached_property
    def pixel_statistics(self) -> Standardisation:
        """Mean and standard deviation, each (), of all values of the training images or video, in [0, 1]."""
        mean, variance = _moments_of_values(self.train.on(_CPU).split(100))
        # The scale of images that are all of one gray is 0, except for rounding errors.
        return Standardisation(mean.float(), variance.clamp(min=1e-12).sqrt().float())

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the training and validation samples and their labels."""
        fingerprints = self.train.fingerprint + self.validation.fingerprint
        return hashlib.sha256(fingerprints.encode()).hexdigest()[:16]


def _moments_of_values(parts: Iterable[Tensor]) -> tuple[Tensor, Tensor]:
    """Return mean and variance, float64 (), of all values of images or video, in [0, 1]."""
    n_values, (total, squares) = 0, torch.zeros(2, dtype=torch.float64)
    # In parts: float64 takes eight times the memory of uint8.
    for part in parts:
        values = to_float(part).double()
        total, squares = total + values.sum(), squares + values.square().sum()
        n_values += part.numel()
    mean = total / n_values
    return mean, squares / n_values - mean.square()


def split(name: str, samples: Samples, validation: float, limit: int | None) -> Dataset:
    """Return `limit` of the samples (None: all), with the fraction `validation` of them held out for validation.

    Both choices are random but the same each time. Raises `ConfigError` if `limit` is larger than the dataset, if
    fewer than two samples remain for training or none for validation, and for vectors that cannot be standardised.
    """
    if limit is not None and limit > len(samples):
        raise ConfigError("limit", f"{limit} is more than the {len(samples)} samples of {name}; remove it to use all")
    order = np.random.default_rng(_ORDER_SEED).permutation(len(samples))[:limit]
    held_out = round(len(order) * validation)
    if held_out < 1 or held_out > len(order) - 2:
        option, value = ("validation", f"{validation:g}") if limit is None else ("limit", str(limit))
        parts = f"{len(order) - held_out} for training and {held_out} for validation"
        raise ConfigError(option, f"{value} splits {len(order)} samples into {parts}; use another value")
    dataset = Dataset(name, samples.take(order[held_out:]), samples.take(order[:held_out]))
    return _standardise(dataset) if samples.is_vectors else dataset


def _standardise(dataset: Dataset) -> Dataset:
    mean, scale = dataset.train.moments()
    if not bool(scale.isfinite().all() and mean.isfinite().all()):
        raise ConfigError("dataset", f"{dataset.name} holds numbers too large to standardise; scale them down")
    # Rounding errors make the scale of a constant column tiny rather than zero.
    constant = (scale <= 1e-12 * mean.abs().clamp(min=1e-300)).nonzero().flatten()
    if len(constant):
        raise ConfigError("dataset", f"{dataset.name}: {_constant_columns(constant.tolist())}")
    moments = Standardisation(mean, scale)
    train, validation = (samples.standardised(moments) for samples in (dataset.train, dataset.validation))
    return Dataset(dataset.name, train, validation, Standardisation(mean.float(), scale.float()))


def _constant_columns(columns: list[int]) -> str:
    if len(columns) == 1:
        return f"column {columns[0]} (from 0) is constant; remove it"
    more = f" and {len(columns) - 5} more" if len(columns) > 5 else ""
    return f"columns {', '.join(map(str, columns[:5]))}{more} (from 0) are constant; remove them"


def select_frames(samples: Tensor) -> Tensor:
    """Return one frame of each video (N, C, T, H, W), number i modulo T of the i-th: (N, C, H, W).

    Images and vectors are returned unchanged.
    """
    if samples.ndim != 5:
        return samples
    sequence = torch.arange(len(samples), device=samples.device)
    return samples[sequence, :, sequence % samples.shape[2]]
