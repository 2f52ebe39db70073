"""What arrays of the user's own data may hold, and how their values become those of samples."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from aldvae.utils.errors import ConfigError

_SHAPES = "N x D, N x H x W, N x H x W x C or N x T x H x W x C"


@contextmanager
def damage_reported(path: Path) -> Iterator[None]:
    """Turn whatever numpy raises for a damaged file into a `ConfigError` that names the file `path`."""
    try:
        yield
    except PermissionError:
        raise
    # A damaged header, too, may ask for any amount of memory.
    except MemoryError as error:
        problem = "is damaged or larger than memory; write it again, a large x as .npy, which is read in parts"
        raise ConfigError("dataset", f"{path} {problem}") from error
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
        shape = " x ".join(map(str, x.shape)) or "a single number"
        raise ConfigError("dataset", f"{path}: x is {shape}; reshape it to {_SHAPES}")


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
        problem = f"images of {dtype} must hold {allowed}, not {low!r} to {high!r}; scale them"
        raise ConfigError("dataset", f"{path}: {problem}")


def to_samples(x: np.ndarray) -> np.ndarray:
    """Return arrays that passed the checks as samples, channels first.

    Images and video are uint8 in 0..255 or float32 in [0, 1]. Vectors are float64 until they are standardised, because
    float32 would lose digits of large values.
    """
    if x.ndim == 2:
        return x.astype(np.float64)
    pixels = x.astype(np.uint8) * 255 if x.dtype == bool else x
    pixels = pixels.astype(np.uint8 if np.issubdtype(pixels.dtype, np.integer) else np.float32)
    return np.ascontiguousarray(np.moveaxis(pixels[..., None] if x.ndim == 3 else pixels, _channel_axis(x.shape), 1))


def _channel_axis(shape: tuple[int, ...]) -> int:
    """Return the axis of the channels: the last, unless only another makes gray or colour images."""
    before = {4: (1,), 5: (2, 1)}.get(len(shape), ())
    if shape[-1] in (1, 3, 4):
        return -1
    return next((axis for axis in before if shape[axis] in (1, 3)), -1)
