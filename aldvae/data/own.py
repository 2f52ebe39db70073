"""The user's own data: a folder of images, an array file, or a table of vectors. Reading never executes code in it."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache, partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from aldvae.data import large, mapped
from aldvae.data.cache import cached, files_key
from aldvae.data.checks import check_array, check_finite, check_range, damage_reported, to_samples
from aldvae.data.dataset import Samples
from aldvae.data.decode import ImageError, read_image
from aldvae.data.image_files import read_images
from aldvae.utils.errors import ConfigError


@lru_cache(maxsize=1)
def load(path: Path, resize: int | None, cache_dir: Path) -> Samples:
    """Return the samples in `path`.

    A folder holds images, either directly or in one folder per class. An ``.npz`` holds ``x`` and optionally integer
    ``labels``, an ``.npy`` only ``x``; a ``.csv`` or ``.parquet`` holds one vector per row. ``x`` is N x D (vectors),
    N x H x W (gray), N x H x W x C (colour) or N x T x H x W x C (video). `resize` is for folders; see `read_images`.
    A large ``.npy`` and the decoded images of a large folder stay in their files.
    Raises `ConfigError` naming the file and its problem.
    """
    try:
        return _read(path, resize, cache_dir)
    except PermissionError as error:
        raise ConfigError(
            "dataset", f"{error.filename or path} cannot be read: permission denied; check its permissions"
        ) from error


def _read(path: Path, resize: int | None, cache_dir: Path) -> Samples:
    if not path.exists():
        raise ConfigError("dataset", f"{path} does not exist; name another path")
    if path.is_dir():
        return _folder(path, resize, cache_dir)
    if resize is not None:
        raise ConfigError("resize", f"has no effect with the file {path}, only with a folder of images; remove it")
    readers: dict[str, Callable[[Path], Samples]] = {
        ".npz": _arrays,
        ".npy": partial(_array, cache_dir),
        ".csv": _table,
        ".parquet": _table,
    }
    if path.suffix not in readers:
        raise ConfigError("dataset", f"{path} is neither a folder of images nor one of {', '.join(readers)}")
    return readers[path.suffix](path)


def _folder(root: Path, resize: int | None, cache_dir: Path) -> Samples:
    entries = sorted(path for path in root.iterdir() if not path.name.startswith("."))
    folders, loose = [e for e in entries if e.is_dir()], [e for e in entries if e.is_file()]
    if folders and loose:
        raise ConfigError("dataset", f"{root} holds both class folders and files such as {loose[0].name}; use one kind")
    files, labels = loose, None
    if folders:
        inside = [sorted(p for p in f.rglob("*") if p.is_file() and not p.name.startswith(".")) for f in folders]
        files = [path for group in inside for path in group]
        labels = [label for label, group in enumerate(inside) for _ in group]
        if empty := [folder.name for folder, group in zip(folders, inside, strict=True) if not group]:
            raise ConfigError("dataset", f"{root}: the class folder {empty[0]} is empty; remove it")
    if not files:
        raise ConfigError("dataset", f"{root} holds no images; name another folder")
    classes = tuple(folder.name for folder in folders)
    if len(files) >= large.MANY_FILES or _decoded_bytes(files[0], resize) * len(files) >= mapped.MAPPED_BYTES:
        return large.load_folder(root, files, labels, classes, resize, cache_dir)
    key = f"own-{files_key(root, files, resize)}"
    return cached(cache_dir, key, lambda: read_images(files, "dataset", labels, classes, resize))


def _decoded_bytes(path: Path, resize: int | None) -> int:
    """Return the bytes of an image as RGB pixels; 0 if it cannot be read."""
    try:
        width, height = read_image(path, resize).size
    except ImageError:
        return 0
    return 3 * width * height


def _array(cache_dir: Path, path: Path) -> Samples:
    if path.stat().st_size < mapped.MAPPED_BYTES:
        return _arrays(path)
    return large.open_array(path, cache_dir)


def _arrays(path: Path) -> Samples:
    # We open the file because numpy, if it opens a damaged one, does not close it.
    with damage_reported(path), path.open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        arrays = {"x": stored} if isinstance(stored, np.ndarray) else dict(stored)
    if "x" not in arrays:
        raise ConfigError(
            "dataset", f"{path} has no array x (it holds: {', '.join(arrays) or 'none'}); save the samples as x"
        )
    return _with_labels(path, _samples(path, arrays["x"]), arrays.get("labels"))


def _samples(path: Path, x: np.ndarray) -> Samples:
    check_array(path, x)
    check_finite(path, x)
    if x.ndim > 2:
        check_range(path, x.dtype, float(x.min()), float(x.max()))
    return Samples(torch.from_numpy(to_samples(x)))


def _with_labels(path: Path, samples: Samples, labels: np.ndarray | None) -> Samples:
    if labels is None:
        return samples
    if labels.shape != (len(samples),) or not np.issubdtype(labels.dtype, np.integer):
        has = f"{' x '.join(map(str, labels.shape))} of {labels.dtype}"
        raise ConfigError("dataset", f"{path}: labels must be {len(samples)} whole numbers, one per sample, not {has}")
    names, classes = np.unique(labels, return_inverse=True)
    return Samples(samples.x, torch.from_numpy(classes.astype(np.int64)), tuple(map(str, names)))


def _table(path: Path) -> Samples:
    frame = _read_parquet(path) if path.suffix == ".parquet" else _read_csv(path)
    if "Unnamed: 0" in frame.columns:
        raise ConfigError("dataset", f"{path}: the first column has no name; name it or, if it is an index, remove it")
    if times := [name for name, dtype in frame.dtypes.items() if dtype.kind in "mM"]:
        raise ConfigError("dataset", f"{path}: column {times[0]} holds times, not numbers; remove or convert it")
    numbers = frame.apply(pd.to_numeric, errors="coerce").to_numpy(dtype=np.float64)
    if frame.empty:
        raise ConfigError("dataset", f"{path} holds no rows; name another file")
    if not np.isfinite(numbers).all():
        row, column = np.argwhere(~np.isfinite(numbers))[0]
        cell = f"row {row + 1} of column {frame.columns[column]}"
        raise ConfigError("dataset", f"{path}: {cell} is empty or not a number; fill or remove it")
    return _samples(path, numbers)


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        first = pd.read_csv(path, header=None, nrows=1)
        names = first.apply(pd.to_numeric, errors="coerce").to_numpy().ravel()
        # pandas names unnamed columns 0, 1, 2 and so on when it writes a table.
        has_header = np.isnan(names).all() or (len(names) > 1 and np.array_equal(names, np.arange(len(names))))
        return pd.read_csv(path, header=0 if has_header else None, low_memory=False)
    except (ValueError, OSError) as error:
        raise ConfigError("dataset", f"{path} cannot be read as a table: {' '.join(str(error).split())}") from error


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except ImportError as error:
        raise ConfigError("dataset", f"{path} needs pyarrow: pip install 'aldvae[parquet]'") from error
    except (ValueError, OSError) as error:
        raise ConfigError("dataset", f"{path} cannot be read as a table: {' '.join(str(error).split())}") from error
