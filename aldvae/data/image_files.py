"""Read image files as samples."""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError

from aldvae.data.dataset import Samples
from aldvae.utils.errors import ConfigError

_GRAY = ("1", "L", "LA")


@dataclass(frozen=True)
class ImageBytes:
    """The content of an image file; `name` is for errors."""

    name: str
    content: bytes

    def __str__(self) -> str:
        """The name."""
        return self.name


def read_images(
    files: Sequence[Path | ImageBytes],
    option: str,
    labels: Sequence[int] | None = None,
    classes: tuple[str, ...] = (),
    resize: int | None = None,
) -> Samples:
    """Return the images in `files` as uint8 (N, C, H, W): gray (C = 1) if all are gray, else RGB (C = 3).

    With `resize`, they become `resize` x `resize` pixels. Raises `ConfigError`, naming `option` and the file, for one
    that is not an image, is damaged, has more than 8 bits per channel, or differs in size from the first.
    """
    width, height = _read(files[0], option, resize).size
    pixels = np.empty((len(files), height, width, 3), np.uint8)
    gray = True
    for row, path in zip(pixels, files, strict=True):
        image = _read(path, option, resize)
        if image.size != (width, height):
            problem = f"{path} is {image.width} x {image.height} where {files[0].name} is {width} x {height}"
            raise ConfigError(option, f"{problem}; use --resize N to make all N x N")
        gray = gray and image.mode in _GRAY
        row[:] = np.asarray(image.convert("RGB"))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2)[:, : 1 if gray else 3].contiguous()
    return Samples(x, None if labels is None else torch.tensor(labels), classes)


def _read(path: Path | ImageBytes, option: str, resize: int | None) -> Image.Image:
    try:
        with Image.open(path if isinstance(path, Path) else io.BytesIO(path.content)) as image:
            image.load()
    except UnidentifiedImageError as error:
        raise ConfigError(option, f"{path} is not an image; remove it") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise ConfigError(option, f"{path} is damaged or truncated; repair or remove it") from error
    if image.mode.startswith(("I", "F")):
        raise ConfigError(option, f"{path} has more than 8 bits per channel; save such images as a .npy in [0, 1]")
    if resize is None:
        return image
    # Indices into a palette cannot be interpolated.
    smooth = image if image.mode in _GRAY else image.convert("RGB")
    return smooth.convert("L" if smooth.mode == "1" else smooth.mode).resize((resize, resize))
