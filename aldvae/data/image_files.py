"""Picture files to samples."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from aldvae.data.dataset import Samples
from aldvae.utils.errors import ConfigError

_GRAY = ("1", "L", "LA")


def read_pictures(
    files: Sequence[Path],
    option: str,
    labels: Sequence[int] | None = None,
    classes: tuple[str, ...] = (),
    resize: int | None = None,
) -> Samples:
    """Return the pictures in `files` as uint8 (N, C, H, W): gray if all are, else RGB; resized only if asked to.

    Raises `ConfigError` naming `option` and the file for one that is no picture, damaged, or of another size.
    """
    width, height = _read(files[0], option, resize).size
    pixels = np.empty((len(files), height, width, 3), np.uint8)
    gray = True
    for row, path in zip(pixels, files, strict=True):
        picture = _read(path, option, resize)
        if picture.size != (width, height):
            problem = f"{path} is {picture.width} x {picture.height} where {files[0].name} is {width} x {height}"
            raise ConfigError(option, f"{problem}; use --resize N to bring all to N x N")
        gray = gray and picture.mode in _GRAY
        row[:] = np.asarray(picture.convert("RGB"))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2)[:, : 1 if gray else 3].contiguous()
    return Samples(x, None if labels is None else torch.tensor(labels), classes)


def _read(path: Path, option: str, resize: int | None) -> Image.Image:
    try:
        with Image.open(path) as picture:
            picture.load()
    except UnidentifiedImageError as error:
        raise ConfigError(option, f"{path} is not a picture; move it out of the folder") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(option, f"{path} is damaged or truncated; mend or remove it") from error
    if picture.mode.startswith(("I", "F")):
        raise ConfigError(option, f"{path} has more than 8 bits a channel; give such pictures as a .npy in [0, 1]")
    if resize is None:
        return picture
    # A palette cannot be interpolated.
    smooth = picture if picture.mode in _GRAY else picture.convert("RGB")
    return smooth.convert("L" if smooth.mode == "1" else smooth.mode).resize((resize, resize))
