"""Many images in one file: a grid, animated for video."""

from __future__ import annotations

import io

import numpy as np
import torch
from PIL import Image
from torch import Tensor

# Images of fewer pixels are enlarged to this height.
_HEIGHT = 48
_FRAME_MILLISECONDS = 150


def image_file(name: str, samples: Tensor, columns: int) -> tuple[str, bytes]:
    """Return name and content of a file that shows images (N, C, H, W) or video (N, C, T, H, W) in a grid.

    Values are in [0, 1]. The grid has `columns` columns, or as many as there are samples if they are fewer.
    """
    content = io.BytesIO()
    if samples.ndim == 4:
        _grid(samples, columns).save(content, "PNG")
        return f"{name}.png", content.getvalue()
    first, *rest = [_grid(samples[:, :, frame], columns) for frame in range(samples.shape[2])]
    first.save(content, "GIF", save_all=True, append_images=rest, duration=_FRAME_MILLISECONDS, loop=0)
    return f"{name}.gif", content.getvalue()


def _grid(samples: Tensor, columns: int) -> Image.Image:
    pixels = (samples.clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    scale = max(1, -(-_HEIGHT // pixels.shape[1]))
    missing = -len(pixels) % columns if len(pixels) > columns else 0
    pixels = np.pad(pixels, ((0, missing), (0, 1), (0, 1), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(pixels[start : start + columns]), axis=1) for start in range(0, len(pixels), columns)]
    grid = np.concatenate(rows, axis=0)[:-1, :-1]
    image = Image.fromarray(grid if grid.shape[-1] == 3 else grid[..., 0])
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)
