"""The latent size at the start, from the data, where the user sets none under ``--protocol recommended``."""

from __future__ import annotations

import logging
import math
from functools import lru_cache
from pathlib import Path

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.config.execution import Execution
from aldvae.config.sections import DataConfig

# A start below the answer is worse than one above it, and the estimate says nothing of decoder, likelihood or beta.
_FACTOR, _SMALLEST, _LARGEST = 2, 16, 128


def start_from_data(data: DataConfig, own_data: Path | None, execution: Execution) -> int:
    """Return the latent size at the start for runs on `data`, and log where it comes from.

    It is twice the intrinsic dimension of the training samples, rounded up, and 16 to 128, but never above the number
    of values of a sample. `own_data` is the path of the user's own data. Raises `ConfigError` as `load_dataset` does.
    """
    return _start(data, own_data, execution.data_directory, execution.cache_directory)


# Cached because a sweep lists its runs several times.
@lru_cache
def _start(data: DataConfig, own_data: Path | None, data_dir: Path | None, cache_dir: Path) -> int:
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
    start = start_size(dimension, math.prod(loaded.shape))
    logging.getLogger("aldvae").info(
        f"{data.dataset}: the start is {start} dimensions, since the data have about {dimension:.1f} (TwoNN); "
        "--init-dim overrides it"
    )
    return start


def start_size(dimension: float, n_values: int) -> int:
    """Return the latent size at the start for samples of `n_values` values and of intrinsic `dimension`."""
    wanted = math.ceil(min(_FACTOR * dimension, _LARGEST))
    return max(SMALLEST_DIM, min(max(wanted, _SMALLEST), n_values))
