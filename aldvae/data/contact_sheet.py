"""A contact sheet: a few samples of each class, to see what a dataset looks like and to check its labels."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from aldvae.data.dataset import Samples, to_float
from aldvae.utils.files import write_figure

_COLUMNS = 10


def draw_sheet(name: str, samples: Samples, credit: str, directory: Path) -> Path:
    """Draw ten samples of each class (of video, all frames of two) and return the path, `directory`/`name`.png.

    `credit` is printed below the samples. Samples without labels fill up to ten rows.
    """
    rows = [_row(samples, index) for index in _by_class(samples)]
    figure = Figure(figsize=(10, 0.9 * len(rows) + 0.8), layout="constrained")
    axes = figure.subplots(len(rows), 1, squeeze=False)[:, 0]
    for axis, row, label in zip(axes, rows, samples.classes or ("",) * len(rows), strict=True):
        axis.imshow(row[..., 0] if row.shape[-1] == 1 else row, cmap="gray", vmin=0, vmax=1, interpolation="nearest")
        axis.set_ylabel(label, rotation=0, ha="right", va="center")
        axis.set_xticks([])
        axis.set_yticks([])
    figure.suptitle(f"{name}: {len(samples):,} samples of {' x '.join(map(str, samples.shape))}")
    if credit:
        figure.supxlabel(credit, fontsize=8)
    return write_figure(figure, directory / f"{name}.png")


def _by_class(samples: Samples) -> list[Tensor]:
    count = 2 if samples.is_video else _COLUMNS
    if samples.labels is None:
        return list(torch.arange(min(len(samples), 10 * count)).split(count))
    return [(samples.labels == label).nonzero().flatten()[:count] for label in range(len(samples.classes))]


def _row(samples: Samples, index: Tensor) -> np.ndarray:
    """Return the samples at `index` side by side: (H, n * W, C) in [0, 1]."""
    images = to_float(samples.take(index).x)
    if samples.is_video:
        images = images.movedim(2, 1).flatten(0, 1)
    row: np.ndarray = np.concatenate(list(images.movedim(1, -1).numpy()), axis=1)
    return row
