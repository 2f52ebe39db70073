"""The user's own data that may be larger than memory: an array file, and a folder decoded into one."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch

from aldvae.data import mapped
from aldvae.data.cache import files_key
from aldvae.data.checks import check_array, check_finite, check_range, damage_reported, to_samples
from aldvae.data.dataset import Samples, first_bytes
from aldvae.data.decode import decode_files
from aldvae.data.mapped import Convert, MappedSamples
from aldvae.utils.errors import ConfigError
from aldvae.utils.files import write_cached
from aldvae.utils.progress import progress

# Folders with more images are decoded by all cores.
MANY_FILES = 2000


def open_array(path: Path, cache_dir: Path) -> MappedSamples:
    """Return the samples in the ``.npy`` file `path`, which stays where it is.

    The first time, all of it is read once, to check the values and to compute the fingerprint; the cache remembers
    that. Raises `ConfigError` as `own.load` does, and for an array in Fortran order.
    """
    with damage_reported(path):
        array = np.asarray(np.load(path, mmap_mode="r", allow_pickle=False))
    check_array(path, array)
    if not array.flags.c_contiguous:
        problem = "is in Fortran order, which is slow to read by samples; save numpy.ascontiguousarray(x)"
        raise ConfigError("dataset", f"{path} {problem}")
    key = files_key(path.parent, [path])
    return _mapped(path, array, to_samples, cache_dir / "samples" / f"own-{key}.json")


def load_folder(
    root: Path,
    files: Sequence[Path],
    labels: list[int] | None,
    classes: tuple[str, ...],
    resize: int | None,
    cache: Path,
) -> Samples:
    """Return the images in `files` below `root`, decoded into one array in the folder `cache` by all cores.

    A second call continues where a killed one was, and afterwards the array is there. It stays in its file if it is
    large. Raises `ConfigError` as `image_files.read_images` does.
    """
    path = cache / "samples" / f"own-{files_key(root, files, resize)}.npy"
    decode_files(files, path, "dataset", resize)
    tensor = None if labels is None else torch.tensor(labels)
    try:
        array = np.asarray(np.load(path, mmap_mode="r"))
    except (OSError, ValueError) as error:
        raise ConfigError("cache_dir", f"{path} is damaged; delete it to have the images decoded again") from error
    if path.stat().st_size < mapped.MAPPED_BYTES:
        return Samples(torch.from_numpy(array.copy()), tensor, classes)
    return _mapped(path, array, np.asarray, path.with_suffix(".json"), tensor, classes)


def _mapped(
    path: Path,
    array: np.ndarray,
    convert: Convert,
    known: Path,
    labels: torch.Tensor | None = None,
    classes: tuple[str, ...] = (),
) -> MappedSamples:
    """Return the samples of `array`, the file `path`; the JSON file `known` remembers their fingerprint."""
    empty = torch.from_numpy(np.array(convert(array[:1])))[:0]
    try:
        identity = str(json.loads(known.read_text())["fingerprint"])
    except (OSError, ValueError, KeyError, TypeError):
        identity = _check_all(path, array, convert, labels)
        write_cached(known, json.dumps({"fingerprint": identity}).encode())
    positions = np.arange(len(array))
    return MappedSamples(empty, labels, classes, array=array, positions=positions, convert=convert, identity=identity)


def _check_all(path: Path, array: np.ndarray, convert: Convert, labels: torch.Tensor | None) -> str:
    """Check all values of `array` in one pass; return the fingerprint that its samples would have in memory."""
    low, high = np.inf, -np.inf
    rows = max(1, mapped.CHUNK_VALUES // int(np.prod(array.shape[1:])))
    empty = torch.from_numpy(np.array(convert(array[:1])))[:0]
    digest = hashlib.sha256(first_bytes((len(array), *empty.shape[1:]), empty.dtype))
    with progress(f"checking {path.name}", len(array)) as shown:
        for start in range(0, len(array), rows):
            part = array[start : start + rows]
            check_finite(path, part, start)
            low, high = min(low, float(part.min())), max(high, float(part.max()))
            digest.update(convert(part).data)
            shown(len(part))
    if array.ndim > 2:
        check_range(path, array.dtype, low, high)
    if labels is not None:
        digest.update(labels.numpy().data)
    return digest.hexdigest()[:16]
