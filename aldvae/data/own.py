"""The user's own data: a folder of images, arrays, or a table of vectors. Reading never executes code in it."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

from aldvae.data import hugging_face, large, mapped
from aldvae.data.arrays import read_arrays
from aldvae.data.cache import cached, files_key
from aldvae.data.dataset import Samples
from aldvae.data.decode import ImageError, read_image
from aldvae.data.h5ad import read_h5ad
from aldvae.data.image_files import read_images
from aldvae.data.tables import read_table
from aldvae.utils.errors import ConfigError

_READERS = {
    ".npz": read_arrays,
    ".npy": read_arrays,
    ".csv": read_table,
    ".parquet": read_table,
    ".h5ad": read_h5ad,
}


@lru_cache(maxsize=1)
def load(path: Path, resize: int | None, cache_dir: Path) -> Samples:
    """Return the samples in `path`.

    A folder holds images, either directly or in one folder per class, or a dataset that Hugging Face's library saved.
    An ``.npz`` holds ``x`` and optionally integer ``labels``, an ``.npy`` only ``x``, with the shapes of
    `arrays.array_samples`. A ``.csv``, ``.parquet`` or ``.h5ad`` holds one vector per row. `resize` is for images; see
    `read_images`. A large ``.npy`` and the decoded images of a large folder stay in their files.

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
    if hugging_face.is_saved(path):
        return hugging_face.read(path, resize)
    if path.is_dir():
        return _folder(path, resize, cache_dir)
    if resize is not None:
        raise ConfigError("resize", f"has no effect with the file {path}, only with a folder of images; remove it")
    suffix = path.suffix.lower()
    if suffix not in _READERS:
        raise ConfigError(
            "dataset", f"{path} is neither a folder of images nor one of {', '.join(_READERS)}; convert it"
        )
    if suffix == ".npy" and path.stat().st_size >= mapped.MAPPED_BYTES:
        return large.open_array(path, cache_dir)
    return _READERS[suffix](path)


def list_images(root: Path) -> tuple[list[Path], list[int] | None, tuple[str, ...]]:
    """Return the files in the folder `root` in the order of the samples, their class indices, and the classes.

    Without class folders, the indices are None. Raises `ConfigError` as `load` does.
    """
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
    return files, labels, tuple(folder.name for folder in folders)


def _folder(root: Path, resize: int | None, cache_dir: Path) -> Samples:
    files, labels, classes = list_images(root)
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
