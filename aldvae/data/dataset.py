"""What a dataset is once it is loaded, and how it is cut: a subset, then training and validation images."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from aldvae.errors import ConfigError

# Subset and split are properties of the dataset, not of a run: every seed trains and is judged on the same images.
_ORDER_SEED = 0


@dataclass(frozen=True)
class Images:
    """Images as uint8 (N, C, H, W) with 0..255 for [0, 1], and their classes (N,), 0 to n_classes - 1."""

    x: Tensor
    labels: Tensor

    def __len__(self) -> int:
        """The number of images."""
        return len(self.x)

    def take(self, index: Tensor | np.ndarray) -> Images:
        """Return the images at `index`, in that order."""
        chosen = torch.as_tensor(index)
        return Images(self.x[chosen], self.labels[chosen])

    @cached_property
    def fingerprint(self) -> str:
        """A hash of the contents, equal for equal images and labels wherever they come from."""
        digest = hashlib.sha256(str(tuple(self.x.shape)).encode())
        for tensor in (self.x, self.labels):
            digest.update(tensor.contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Dataset:
    """A named dataset, cut into training and validation images."""

    name: str
    train: Images
    validation: Images

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of one input, (C, H, W)."""
        return tuple(self.train.x.shape[1:])

    @property
    def fingerprint(self) -> str:
        """A hash of all images and labels and of how they are cut."""
        both = self.train.fingerprint + self.validation.fingerprint
        return hashlib.sha256(both.encode()).hexdigest()[:16]


def cut(name: str, images: Images, validation: float, limit: int | None) -> Dataset:
    """Take `limit` of the images (None: all), hold out the fraction `validation` of them.

    The choice is the same each time, and a smaller subset is part of a larger one. Raises `ConfigError` for a limit
    that leaves no image to train or validate on, or that is larger than the dataset.
    """
    if limit is not None and limit > len(images):
        raise ConfigError("limit", f"{limit} is more than the {len(images)} images of {name}; leave it out to use all")
    order = np.random.default_rng(_ORDER_SEED).permutation(len(images))[:limit]
    held_out = round(len(order) * validation)
    if held_out == 0 or held_out == len(order):
        raise ConfigError("limit", f"{len(order)} images cannot be cut into training and {validation:.0%} validation")
    return Dataset(name, images.take(order[held_out:]), images.take(order[:held_out]))
