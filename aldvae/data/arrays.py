"""Arrays of the user's own data as samples: which shapes and values they may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from aldvae.data.checks import check_array, check_finite, check_range, damage_reported, to_samples
from aldvae.data.dataset import Samples
from aldvae.utils.errors import ConfigError


def read_arrays(path: Path) -> Samples:
    """Return the samples of an ``.npz`` with ``x`` and, if there are any, integer ``labels``, or of an ``.npy``.

    Raises `ConfigError` as `array_samples` does, and for a damaged file, Python objects and other labels.
    """
    # We open the file because numpy, if it opens a damaged one, does not close it.
    with damage_reported(path), path.open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        arrays = {"x": stored} if isinstance(stored, np.ndarray) else dict(stored)
    if "x" not in arrays:
        raise ConfigError(
            "dataset", f"{path} has no array x (it holds: {', '.join(arrays) or 'none'}); save the samples as x"
        )
    samples = array_samples(path, arrays["x"])
    if "labels" not in arrays:
        return samples
    labels = arrays["labels"]
    if labels.shape != (len(samples),) or not np.issubdtype(labels.dtype, np.integer):
        has = f"{' x '.join(map(str, labels.shape))} of {labels.dtype}"
        raise ConfigError("dataset", f"{path}: labels must be {len(samples)} whole numbers, one per sample, not {has}")
    return with_labels(path, samples, labels)


def array_samples(path: Path, x: np.ndarray) -> Samples:
    """Return the array `x`, read from `path`, as samples.

    It is N x D (vectors), N x H x W (gray), N x H x W x C (colour) or N x T x H x W x C (video). Where only this makes
    one or three channels, the channels may come before H and W. Raises `ConfigError` for other shapes and for values
    that are not real, not finite or, in images, out of range.
    """
    check_array(path, x)
    check_finite(path, x)
    if x.ndim > 2:
        check_range(path, x.dtype, float(x.min()), float(x.max()))
    return Samples(torch.from_numpy(to_samples(x)))


def with_labels(
    path: Path, samples: Samples, labels: np.ndarray | pd.Series, names: Sequence[str] | None = None
) -> Samples:
    """Return `samples` with labels (N,), whole numbers or text; `names` are those of the classes 0, 1, and so on.

    Raises `ConfigError` for labels that are missing or of another kind.
    """
    series = pd.Series(labels)
    if series.isna().any():
        row = int(np.argmax(series.isna()))
        raise ConfigError("dataset", f"{path}: labels are missing, first in sample {row} (from 0); fill or remove it")
    if pd.api.types.is_float_dtype(series) and not (series == series.round()).all():
        raise ConfigError("dataset", f"{path}: labels must be whole numbers or text, not fractions; rename the column")
    codes, classes = pd.factorize(series.astype(int) if pd.api.types.is_float_dtype(series) else series, sort=True)
    texts = [str(c) if names is None else names[int(c)] for c in classes]
    return replace(samples, labels=torch.from_numpy(codes.astype(np.int64)), classes=tuple(texts))
