"""Data by name or of the user's own, loaded and split into training and validation samples."""

from __future__ import annotations

from pathlib import Path

from aldvae.data.dataset import Dataset, split
from aldvae.data.sources import SOURCES
from aldvae.utils.errors import ConfigError


def load_dataset(
    name: str,
    *,
    validation: float,
    limit: int | None = None,
    data_dir: Path | None = None,
    cache_dir: Path,
    own_data: Path | None = None,
    resize: int | None = None,
) -> Dataset:
    """Return dataset `name`, found or downloaded under `data_dir`, or read from the user's `own_data`.

    The fraction `validation` is held out; with `limit`, only so many samples are used, the same each time. Raises
    `ConfigError` for a data directory that does not exist, data that is missing and cannot be downloaded, damaged
    data, a senseless limit.
    """
    if own_data is not None:
        # It needs pandas, which takes half a second to import.
        from aldvae.data import own

        samples = own.load(own_data, resize, cache_dir)
    elif resize is not None:
        raise ConfigError("resize", f"is for folders of images of your own; {name} has one size")
    else:
        samples = SOURCES[name].load(data_dir, cache_dir)
    return split(name, samples, validation, limit)
