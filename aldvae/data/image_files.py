"""Read image files as samples."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from aldvae.data.dataset import Samples
from aldvae.data.decode import ImageError, ImageFile, read_image, read_pixels
from aldvae.utils.errors import ConfigError


def read_images(
    files: Sequence[ImageFile],
    option: str,
    labels: Sequence[int] | None = None,
    classes: tuple[str, ...] = (),
    resize: int | None = None,
) -> Samples:
    """Return the images in `files` as uint8 (N, C, H, W): gray (C = 1) if all are gray, else RGB (C = 3).

    With `resize`, they become `resize` x `resize` pixels. Raises `ConfigError`, naming `option` and the file, for one
    that is not an image, is damaged, has more than 8 bits per channel, or differs in size from the first.
    """
    try:
        pixels, gray = read_pixels(files, files[0], read_image(files[0], resize).size, resize)
    except ImageError as error:
        raise ConfigError(option, str(error)) from error
    x = torch.from_numpy(pixels)[:, : 1 if gray else 3].contiguous()
    return Samples(x, None if labels is None else torch.tensor(labels), classes)
