"""Use of a trained model: latent vectors, reconstructions and new samples, in the units of the user's data.

`data` and results have the layout of the user's own data: vectors N x D, gray images N x H x W, colour N x H x W x C,
video N x T x H x W x C. Images are whole numbers in 0..255 or other numbers in [0, 1]. Batches bound the memory: beside
data and result, only one batch is on the device.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from aldvae.models.serialization import load
from aldvae.models.vae import VAE
from aldvae.utils.errors import ArgumentError
from aldvae.utils.seeding import generator

if TYPE_CHECKING:
    import pandas as pd

_BATCH = 100


def encode(model: VAE | str | Path, data: np.ndarray | pd.DataFrame) -> np.ndarray:
    """Return the latent vectors of `data`, the means of their posteriors: float32 (N, n_z).

    `model` is a model, a run's directory or its model file. If the model knows the names of its columns, those of a
    data frame are found by name. Raises `ArgumentError` if shape, columns or values of `data` do not suit the model.
    """
    model = _loaded(model)
    array = _checked(model, data)
    with _evaluation(model):
        return _stack((model.encode(x)[0].cpu().numpy() for x in _batches(model, array)), len(array))


def reconstruct(model: VAE | str | Path, data: np.ndarray | pd.DataFrame) -> np.ndarray:
    """Return `data` decoded from their latent vectors, with the same layout and units; arguments as in `encode`.

    Vectors are float32, images uint8 if `data` holds whole numbers, else float32.
    """
    model = _loaded(model)
    array = _checked(model, data)
    whole = np.issubdtype(array.dtype, np.integer)
    with _evaluation(model):
        parts = (_to_user(model, model.generate(model.encode(x)[0]), whole) for x in _batches(model, array))
        decoded = _stack(parts, len(array))
    return decoded[..., 0] if _is_gray(model) and np.ndim(data) == 3 else decoded


def sample(model: VAE | str | Path, n: int, seed: int = 0) -> np.ndarray:
    """Return `n` new samples, decoded from the prior, in the layout and units of the training data.

    The same `seed` gives the same samples. Images are uint8 in 0..255, or float32 in [0, 1] if those of training were.
    Raises `ArgumentError` if `n` is below 1 or `seed` below 0.
    """
    for name, value, least in (("n", n, 1), ("seed", seed, 0)):
        if value < least:
            raise ArgumentError(name, f"must be {least} or more, not {value}")
    model = _loaded(model)
    z = torch.randn(n, model.latent_dim, generator=generator(seed, "sample"))
    with _evaluation(model):
        device = next(model.parameters()).device
        parts = (_to_user(model, model.generate(part.to(device)), not model.unit_pixels) for part in z.split(_BATCH))
        new = _stack(parts, n)
    return new[..., 0] if _is_gray(model) else new


def describe_shape(shape: tuple[int, ...]) -> str:
    """Return the shape of a sample (see `VAE`) as text, in the layout of the user's data."""
    if len(shape) == 1:
        return f"vectors of {shape[0]} values"
    sizes = [*shape[1:], *([] if shape[0] == 1 and len(shape) == 3 else shape[:1])]
    return f"{'images' if len(shape) == 3 else 'video'} of {' x '.join(map(str, sizes))}"


def _loaded(model: VAE | str | Path) -> VAE:
    return model if isinstance(model, VAE) else load(model)


@contextmanager
def _evaluation(model: VAE) -> Iterator[None]:
    """Let the model compute without gradients in evaluation mode; afterwards it is in its former mode."""
    was_training = model.training
    model.eval()
    try:
        with torch.inference_mode():
            yield
    finally:
        model.train(was_training)


def _is_gray(model: VAE) -> bool:
    return len(model.shape) == 3 and model.shape[0] == 1


def _checked(model: VAE, data: np.ndarray | pd.DataFrame) -> np.ndarray:
    """Return `data` as an array with channels last and its columns in the model's order."""
    array = np.asarray(_ordered(model, data))
    if _is_gray(model) and array.ndim == 3:
        array = array[..., None]
    if array.shape[1:] != (*model.shape[1:], *model.shape[:1]):
        held = " x ".join(map(str, np.shape(data)))
        raise ArgumentError("data", f"is {held}, but the model takes {describe_shape(model.shape)}; give such data")
    _check_values(array, is_vectors=len(model.shape) == 1)
    return array


def _check_values(array: np.ndarray, is_vectors: bool) -> None:
    if not len(array):
        raise ArgumentError("data", "holds no samples; give one or more")
    if not (np.issubdtype(array.dtype, np.number) or array.dtype == bool) or np.iscomplexobj(array):
        raise ArgumentError("data", f"holds {array.dtype}, not real numbers; convert it")
    low, high = float(array.min()), float(array.max())
    if not np.isfinite([low, high]).all():
        raise ArgumentError("data", "holds NaN or infinite values; remove them")
    whole = np.issubdtype(array.dtype, np.integer)
    if not is_vectors and (low < 0 or high > (255 if whole else 1) or (whole and high == 1)):
        allowed = "whole numbers in 0..255" if whole else "numbers in [0, 1]"
        raise ArgumentError("data", f"must hold {allowed}, not {low:g} to {high:g}; convert it")


def _ordered(model: VAE, data: np.ndarray | pd.DataFrame) -> np.ndarray | pd.DataFrame:
    """Return the columns of a data frame in the model's order, if the model knows their names."""
    if isinstance(data, np.ndarray) or not (model.columns and hasattr(data, "columns")):
        return data
    if missing := [name for name in model.columns if name not in data.columns]:
        raise ArgumentError("data", f"has no column {missing[0]}, which the model was trained on; add it")
    return data[list(model.columns)]


def _batches(model: VAE, array: np.ndarray) -> Iterator[Tensor]:
    """Yield the samples as the network takes them, (B, *shape) on the model's device."""
    device = next(model.parameters()).device
    for start in range(0, len(array), _BATCH):
        # A copy, since torch takes no read-only arrays, which data frames give.
        x = torch.from_numpy(np.array(array[start : start + _BATCH], np.float32, order="C")).to(device)
        if len(model.shape) == 1:
            yield model.standardise(x)
        else:
            yield x.movedim(-1, 1) / (255 if np.issubdtype(array.dtype, np.integer) else 1)


def _to_user(model: VAE, x: Tensor, whole: bool) -> np.ndarray:
    """Return what the model generated, (B, *shape), in the user's units with channels last."""
    if len(model.shape) == 1:
        return model.restore(x).cpu().numpy()
    pixels = x.clamp(0, 1).movedim(1, -1).cpu()
    return ((pixels * 255).round().to(torch.uint8) if whole else pixels).numpy()


def _stack(parts: Iterable[np.ndarray], n: int) -> np.ndarray:
    """Return the rows of all parts, `n` in total, without holding them twice."""
    stacked, filled = None, 0
    for part in parts:
        if stacked is None:
            stacked = np.empty((n, *part.shape[1:]), part.dtype)
        stacked[filled : filled + len(part)] = part
        filled += len(part)
    assert stacked is not None
    return stacked
