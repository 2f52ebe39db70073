"""Write vectors and images into files: tables, arrays, folders of images. Arrays and folders can be read as data again.

Labels are the class names of the samples, as whole numbers if all are.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from PIL import Image

from aldvae.data.dataset import Samples
from aldvae.data.image_grid import image_file
from aldvae.utils.errors import ConfigError
from aldvae.utils.files import write_atomically

VECTOR_FILES, ARRAY_FILES = (".csv", ".parquet", ".npy", ".npz"), (".npy", ".npz")
FOLDER = ""
_GRIDS = {".png": 4, ".gif": 5}


def layout(samples: Samples) -> np.ndarray:
    """Return samples in the layout of the user's data: N x D, N x H x W, N x H x W x C or N x T x H x W x C.

    All of them are read into memory.
    """
    stored = samples.on(torch.device("cpu"))[:]
    x = stored if samples.is_vectors else stored.movedim(1, -1)
    gray = not samples.is_vectors and not samples.is_video and x.shape[-1] == 1
    return (x[..., 0] if gray else x).numpy()


def label_values(samples: Samples) -> np.ndarray | None:
    """Return the label of each sample (N,): whole numbers if all classes are, else names; None without labels."""
    if samples.labels is None:
        return None
    whole = all(re.fullmatch(r"0|-?[1-9]\d{0,17}", name) for name in samples.classes)
    names = np.array(samples.classes)
    values: np.ndarray = (names.astype(np.int64) if whole else names)[samples.labels.numpy()]
    return values


def output_suffixes(shape: tuple[int, ...], grid: bool = False) -> tuple[str, ...]:
    """Return the suffixes of files that can hold samples of `shape`; with `grid`, also those of a grid of them."""
    if len(shape) == 1:
        return VECTOR_FILES
    is_image = len(shape) == 3
    folder = (FOLDER,) if is_image and shape[0] in (1, 3) else ()
    return (*ARRAY_FILES, *folder, *([".png" if is_image else ".gif"] if grid else []))


def check_output(path: Path, suffixes: Sequence[str]) -> None:
    """Raise `ConfigError` naming ``--output`` if `path` has none of the `suffixes` or is a folder that holds files."""
    is_folder = path.is_dir()
    if (FOLDER if is_folder else path.suffix) not in suffixes:
        names = [suffix or "a folder" for suffix in suffixes]
        raise ConfigError("output", f"{path} must be {', '.join(names[:-1])} or {names[-1]} here")
    if is_folder and any(path.iterdir()):
        raise ConfigError("output", f"{path} is a folder that holds files; empty it or name another")
    if path.suffix == ".parquet" and find_spec("pyarrow") is None:
        raise ConfigError("output", f"{path} needs pyarrow: pip install 'aldvae[parquet]'")


def write_vectors(
    path: Path,
    x: np.ndarray,
    columns: Sequence[str],
    labels: np.ndarray | None = None,
    files: Sequence[str] | None = None,
) -> None:
    """Write vectors `x` (N, D), in the format of the suffix of `path`.

    A table has the `columns`, before them `file` if the rows come from `files`, and after them `label` if there are
    labels. An ``.npy`` holds `x` alone, an ``.npz`` `x` and `labels`.
    """
    if path.suffix in ARRAY_FILES:
        write_array(path, x, labels)
        return
    table = pd.DataFrame(x, columns=list(columns))
    if files is not None:
        table.insert(0, "file", list(files))
    if labels is not None:
        table["label"] = labels
    if path.suffix == ".csv":
        write_atomically(path, table.to_csv(index=False))
    else:
        content = io.BytesIO()
        table.to_parquet(content, index=False)
        write_atomically(path, content.getvalue())


def write_array(path: Path, x: np.ndarray, labels: np.ndarray | None = None) -> None:
    """Write `x` as an ``.npy``, or as an ``.npz`` with its `labels`; names of classes become numbers and `classes`."""
    content = io.BytesIO()
    if path.suffix == ".npy":
        np.save(content, x)
    else:
        arrays = {"x": x}
        if labels is not None and not np.issubdtype(labels.dtype, np.integer):
            arrays["classes"], arrays["labels"] = np.unique(labels, return_inverse=True)
        elif labels is not None:
            arrays["labels"] = labels
        np.savez(content, allow_pickle=False, **arrays)
    write_atomically(path, content.getvalue())


def write_images(
    path: Path, x: np.ndarray, labels: np.ndarray | None = None, files: Sequence[str] | None = None
) -> None:
    """Write images or video `x` (see `layout`) as an array, as a grid, or into the folder `path` as one PNG for each.

    In the folder, images have the names of `files`; else they are numbered, in a folder for each of the `labels`.
    """
    if path.suffix in ARRAY_FILES:
        write_array(path, x, labels)
    elif path.suffix in _GRIDS:
        _write_grid(path, x)
    else:
        for name, image in zip(_image_names(len(x), labels, files), _pixels(x), strict=True):
            content = io.BytesIO()
            Image.fromarray(image).save(content, "PNG")
            write_atomically(path / name, content.getvalue())


def _pixels(x: np.ndarray) -> np.ndarray:
    return x if x.dtype == np.uint8 else (x * 255).round().astype(np.uint8)


def _write_grid(path: Path, x: np.ndarray) -> None:
    values = torch.from_numpy(_pixels(x)).float() / 255
    channels_first = values[:, None] if values.ndim == 3 else values.movedim(-1, 1)
    write_atomically(path, image_file(path.stem, channels_first, math.ceil(math.sqrt(len(x))))[1])


def _image_names(n: int, labels: np.ndarray | None, files: Sequence[str] | None) -> list[str]:
    if files is not None:
        names = [str(Path(name).with_suffix(".png")) for name in files]
        return names if len(set(names)) == n else [f"{name}.png" for name in files]
    numbers = [f"{i:0{len(str(n - 1))}}.png" for i in range(n)]
    if labels is None:
        return numbers
    folders = [re.sub(r"[^\w.-]+", "-", str(label)) for label in labels]
    return [f"{folder}/{number}" for folder, number in zip(folders, numbers, strict=True)]
