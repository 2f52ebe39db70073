"""Load a dataset by name, or the user's own, whole or split into training and validation samples."""

from __future__ import annotations

from pathlib import Path

from aldvae.data.dataset import Dataset, Samples, split
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
    """Return the dataset `name`, found or downloaded under `data_dir`, or read from the user's path `own_data`.

    With `limit`, only so many samples are used, the same each time. The fraction `validation` of them is held out.
    `resize` applies to the user's own images. Raises `ConfigError` if the data directory does not exist, if data is
    damaged or missing and cannot be downloaded, and if `limit` or `validation` do not suit the number of samples.
    """
    return split(name, load_samples(name, data_dir, cache_dir, own_data, resize), validation, limit)


def load_samples(
    name: str, data_dir: Path | None, cache_dir: Path, own_data: Path | None = None, resize: int | None = None
) -> Samples:
    """Return all samples of a dataset in their order, vectors as they are; arguments and errors as `load_dataset`."""
    if own_data is not None:
        # Imported here because it needs pandas, which takes half a second to import.
        from aldvae.data import own

        return own.load(own_data, resize, cache_dir)
    if resize is not None:
        raise ConfigError(
            "resize", f"has no effect with --dataset {name}, only with a folder of images of your own; remove it"
        )
    return SOURCES[name].load(data_dir, cache_dir)
