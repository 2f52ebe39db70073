"""The latent size at the start, from the data, where the user sets none under ``--protocol recommended``."""

from __future__ import annotations

import math
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.config.execution import Execution
from aldvae.config.sections import DataConfig

# A start below the answer is worse than one above it, and the estimate says nothing of decoder, likelihood or beta.
_FACTOR, _SMALLEST, _LARGEST = 2, 16, 128


class Start(NamedTuple):
    """The latent size at the start, and the intrinsic dimension of the data from which it comes."""

    size: int
    dimension: float


def start_from_data(data: DataConfig, own_data: Path | None, execution: Execution) -> Start:
    """Return the latent size at the start for runs on `data`.

    It is twice the intrinsic dimension of the training samples, rounded up, and 16 to 128, but never above the number
    of values of a sample. `own_data` is the path of the user's own data. Raises `ConfigError` as `load_dataset` does.
    """
    return _start(data, own_data, execution.data_directory, execution.cache_directory)


# Cached because a sweep lists its runs several times.
@lru_cache
def _start(data: DataConfig, own_data: Path | None, data_dir: Path | None, cache_dir: Path) -> Start:
    from aldvae.data.intrinsic_dimension import estimate_dimension
    from aldvae.data.load import load_dataset

    loaded = load_dataset(
        data.dataset,
        validation=data.validation,
        limit=data.limit,
        data_dir=data_dir,
        cache_dir=cache_dir,
        own_data=own_data,
        resize=data.resize,
    )
    dimension = estimate_dimension(loaded.train)
    return Start(start_size(dimension, math.prod(loaded.shape)), dimension)


def start_size(dimension: float, n_values: int) -> int:
    """Return the latent size at the start for samples of `n_values` values and of intrinsic `dimension`."""
    wanted = math.ceil(min(_FACTOR * dimension, _LARGEST))
    return max(SMALLEST_DIM, min(max(wanted, _SMALLEST), n_values))
