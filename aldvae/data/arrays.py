"""Arrays of the user's own data as samples: which shapes and values they may have."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from aldvae.data.dataset import Samples
from aldvae.utils.errors import ConfigError

_SHAPES = "N x D, N x H x W, N x H x W x C or N x T x H x W x C"


def read_arrays(path: Path) -> Samples:
    """Return the samples of an ``.npz`` with ``x`` and, if there are any, integer ``labels``, or of an ``.npy``.

    Raises `ConfigError` as `array_samples` does, and for a damaged file, Python objects and other labels.
    """
    try:
        # We open the file because numpy, if it opens a damaged one, does not close it.
        with path.open("rb") as file:
            stored = np.load(file, allow_pickle=False)
            arrays = {"x": stored} if isinstance(stored, np.ndarray) else dict(stored)
    except PermissionError:
        raise
    # numpy and zipfile raise many kinds of exception, depending on where a file is damaged.
    except Exception as error:
        raise ConfigError(
            "dataset", f"{path} is damaged or holds Python objects, which are never loaded; write it again"
        ) from error
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
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.iscomplexobj(x):
        raise ConfigError("dataset", f"{path}: x holds {x.dtype}, not real numbers; convert it")
    if not 2 <= x.ndim <= 5 or 0 in x.shape:
        shape = " x ".join(map(str, x.shape)) or "a single number"
        raise ConfigError("dataset", f"{path}: x is {shape}; reshape it to {_SHAPES}")
    if not np.isfinite(x).all():
        sample = int(np.argwhere(~np.isfinite(x))[0][0])
        raise ConfigError(
            "dataset", f"{path}: x holds NaN or infinite values, first in sample {sample} (from 0); remove them"
        )
    if x.ndim == 2:
        # Full precision until they are standardised; float32 would lose digits of large values.
        return Samples(torch.from_numpy(x.astype(np.float64)))
    pixels = np.moveaxis(_pixels(path, x[..., None] if x.ndim == 3 else x), _channel_axis(x.shape), 1)
    return Samples(torch.from_numpy(np.ascontiguousarray(pixels)))


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


def _pixels(path: Path, x: np.ndarray) -> np.ndarray:
    """Return images or video as uint8 in 0..255 or float32 in [0, 1]; other ranges are ambiguous and refused."""
    if x.dtype == bool:
        return x.astype(np.uint8) * 255
    integer = np.issubdtype(x.dtype, np.integer)
    low, high = float(x.min()), float(x.max())
    if integer and high == 1:
        problem = "x holds whole numbers up to 1, which is black in 0..255; save it as bool or as floats in [0, 1]"
        raise ConfigError("dataset", f"{path}: {problem}")
    if low < 0 or high > (255 if integer else 1):
        allowed = "whole numbers in 0..255" if integer else "numbers in [0, 1]"
        problem = f"images of {x.dtype} must hold {allowed}, not {low!r} to {high!r}; scale them"
        raise ConfigError("dataset", f"{path}: {problem}")
    return x.astype(np.uint8 if integer else np.float32)


def _channel_axis(shape: tuple[int, ...]) -> int:
    """Return the axis of the channels: the last, unless only another makes gray or colour images."""
    before = {4: (1,), 5: (2, 1)}.get(len(shape), ())
    if shape[-1] in (1, 3, 4):
        return -1
    return next((axis for axis in before if shape[axis] in (1, 3)), -1)
