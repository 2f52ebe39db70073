"""What arrays of the user's own data may hold, and how their values become those of samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from aldvae.utils.errors import ConfigError


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn whatever numpy raises for a damaged file into a `ConfigError` that names the file `path`."""
    try:
        yield
    except (PermissionError, MemoryError):
        raise
    # numpy and zipfile raise many kinds of exception, depending on where a file is damaged.
    except Exception as error:
        raise ConfigError(
            "dataset", f"{path} is damaged or holds Python objects, which are never loaded; write it again"
        ) from error


def check_array(path: Path, x: np.ndarray) -> None:
    """Raise `ConfigError`, naming the file `path`, if type or shape of `x` are not those of samples."""
    if not (np.issubdtype(x.dtype, np.number) or x.dtype == bool) or np.iscomplexobj(x):
        raise ConfigError("dataset", f"{path}: x holds {x.dtype}, not real numbers; convert it")
    if not 2 <= x.ndim <= 5 or 0 in x.shape:
        shapes = "N x D, N x H x W, N x H x W x C or N x T x H x W x C"
        raise ConfigError("dataset", f"{path}: x is {' x '.join(map(str, x.shape))}; reshape it to {shapes}")


def check_finite(path: Path, x: np.ndarray, first: int = 0) -> None:
    """Raise `ConfigError` if the samples `x`, of which the first is number `first`, hold NaN or infinite values."""
    if not np.isfinite(x).all():
        sample = first + int(np.argwhere(~np.isfinite(x))[0][0])
        raise ConfigError(
            "dataset", f"{path}: x holds NaN or infinite values, first in sample {sample} (from 0); remove them"
        )


def check_range(path: Path, dtype: np.dtype[np.generic], low: float, high: float) -> None:
    """Raise `ConfigError` for images or video of `dtype` from `low` to `high` whose range is ambiguous."""
    integer = np.issubdtype(dtype, np.integer)
    if dtype.kind == "b":
        return
    if integer and high == 1:
        problem = "x holds whole numbers up to 1, which is black in 0..255; save it as bool or as floats in [0, 1]"
        raise ConfigError("dataset", f"{path}: {problem}")
    if low < 0 or high > (255 if integer else 1):
        allowed = "whole numbers in 0..255" if integer else "numbers in [0, 1]"
        raise ConfigError("dataset", f"{path}: images of {dtype} must hold {allowed}, not {low!r} to {high!r}")


def to_samples(x: np.ndarray) -> np.ndarray:
    """Return arrays that passed the checks as samples, channels first.

    Images and video are uint8 in 0..255 or float32 in [0, 1]. Vectors are float64 until they are standardised, because
    float32 would lose digits of large values.
    """
    if x.ndim == 2:
        return x.astype(np.float64)
    pixels = x.astype(np.uint8) * 255 if x.dtype == bool else x
    return channels_first(pixels.astype(np.uint8 if np.issubdtype(pixels.dtype, np.integer) else np.float32))


def channels_first(x: np.ndarray) -> np.ndarray:
    """Return images (N, H, W) or (N, H, W, C), or video (N, T, H, W, C), as contiguous (N, C, ...)."""
    x = x[..., None] if x.ndim == 3 else x
    return np.ascontiguousarray(np.moveaxis(x, -1, 1))
