"""Datasets that Hugging Face's library ``datasets`` saved with ``save_to_disk``: images, arrays or a table."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from aldvae.data.arrays import array_samples, with_labels
from aldvae.data.dataset import Samples
from aldvae.data.decode import ImageBytes, ImageFile
from aldvae.data.image_files import read_images
from aldvae.data.tables import LABELS, frame_samples
from aldvae.utils.errors import ConfigError

if TYPE_CHECKING:
    from datasets import Dataset

_SPLITS, _STATE = "dataset_dict.json", "state.json"


def is_saved(path: Path) -> bool:
    """Return whether the folder `path` holds a saved dataset, or one with several splits."""
    return (path / _SPLITS).is_file() or ((path / _STATE).is_file() and (path / "dataset_info.json").is_file())


def read(path: Path, resize: int | None) -> Samples:
    """Return the samples of the dataset in `path`: its images, else its arrays, else its columns of numbers.

    Of several splits, it is the one called train. Labels are the column of class labels or the one called ``labels``.
    `resize` is for images. Raises `ConfigError` if datasets is not installed, if the dataset is damaged, if there are
    several columns of images or arrays, and as the readers of other images, arrays and tables do.
    """
    dataset = _load(path)
    import datasets

    kinds = {name: type(feature) for name, feature in dataset.features.items()}
    images = [name for name, kind in kinds.items() if kind is datasets.Image]
    scalars = (datasets.Value, datasets.ClassLabel)
    arrays = [name for name, kind in kinds.items() if kind not in (datasets.Image, *scalars)]
    classes = [name for name, kind in kinds.items() if kind is datasets.ClassLabel]
    label = next(iter([name for name in kinds if name == LABELS] + classes), None)
    if len(images or arrays) > 1:
        names = ", ".join(images or arrays)
        raise ConfigError("dataset", f"{path}: {names} all hold samples; keep one with dataset.select_columns")
    if resize is not None and not images:
        raise ConfigError("resize", f"has no effect with {path}, which holds no images; remove it")
    if not images and not arrays:
        return _table(path, dataset, label)
    samples = _images(path, dataset, images[0], resize) if images else _arrays(path, dataset, arrays[0])
    if label is None:
        return samples
    return with_labels(path, samples, pd.Series(dataset[:][label]), _class_names(dataset, label))


def _load(path: Path) -> Dataset:
    try:
        import datasets
    except ImportError as error:
        raise ConfigError("dataset", f"{path} needs Hugging Face's datasets: pip install 'aldvae[datasets]'") from error
    if (path / _SPLITS).is_file() and not (path / "train").is_dir():
        splits = ", ".join(sorted(entry.name for entry in path.iterdir() if entry.is_dir()))
        raise ConfigError("dataset", f"{path} has no split called train; name one of its folders: {splits}")
    folder = path / "train" if (path / _SPLITS).is_file() else path
    try:
        return datasets.load_from_disk(str(folder))
    except PermissionError:
        raise
    # datasets and pyarrow raise many kinds of exception, depending on what is damaged.
    except Exception as error:
        raise ConfigError("dataset", f"{folder} is damaged or holds no rows; save it again") from error


def _class_names(dataset: Dataset, label: str) -> list[str] | None:
    names: list[str] | None = getattr(dataset.features[label], "names", None)
    return names


def _images(path: Path, dataset: Dataset, column: str, resize: int | None) -> Samples:
    import datasets

    cells = dataset.cast_column(column, datasets.Image(decode=False))[:][column]
    files = [_image_file(f"{path}, image {row} (from 0),", cell) for row, cell in enumerate(cells)]
    return read_images(files, "dataset", resize=resize)


def _image_file(name: str, cell: dict[str, bytes | str | None] | None) -> ImageFile:
    content, stored_at = (cell or {}).get("bytes"), (cell or {}).get("path")
    if isinstance(content, bytes) or not stored_at:
        return ImageBytes(name, content if isinstance(content, bytes) else b"")
    return Path(str(stored_at))


def _arrays(path: Path, dataset: Dataset, column: str) -> Samples:
    try:
        return array_samples(path, np.asarray(dataset[:][column]))
    except ValueError as error:
        if isinstance(error, ConfigError):
            raise
        raise ConfigError("dataset", f"{path}: the arrays in {column} differ in shape; make them equal") from error


def _table(path: Path, dataset: Dataset, label: str | None) -> Samples:
    frame: pd.DataFrame = dataset.to_pandas()
    return frame_samples(path, frame if label is None else frame.rename(columns={label: LABELS}))
