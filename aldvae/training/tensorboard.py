"""Watching a run live in TensorBoard: the columns of its metrics as scalars, and its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aldvae.training.callbacks import Callback, Row
from aldvae.utils.errors import ConfigError

if TYPE_CHECKING:
    from aldvae.compression.steps import Step
    from aldvae.config.run_config import RunConfig

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise ConfigError("tensorboard", "needs TensorBoard; pip install 'aldvae[tensorboard]'") from error


class TensorBoard(Callback):
    """Writes a run's progress into its directory for TensorBoard, and forwards every hook to another callback."""

    def __init__(self, callback: Callback, path: Path) -> None:
        """Write into the run directory `path`; forward to `callback`."""
        self._callback, self._path = callback, path

    def on_message(self, text: str, general: bool = False) -> None:
        """Forward the message."""
        self._callback.on_message(text, general)

    def on_start(self, config: RunConfig, first_epoch: int) -> None:
        """Open the event file; TensorBoard drops what a killed process wrote from `first_epoch` on."""
        self._writer = SummaryWriter(str(self._path), purge_step=first_epoch)
        self._callback.on_start(config, first_epoch)

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:
        """Write every number of the row."""
        for name, value in row.items():
            if isinstance(value, int | float) and name != "epoch":
                self._writer.add_scalar(name, value, epoch)
        self._writer.flush()
        self._callback.on_epoch_end(epoch, row, step)

    def on_curve_epoch(self, epoch: int, epochs: int, latent_dim: int) -> None:
        """Forward the epoch."""
        self._callback.on_curve_epoch(epoch, epochs, latent_dim)

    def on_finish(self, path: Path) -> None:
        """Write the images; of an animation, its first frame."""
        for file in sorted([*path.glob("*.png"), *path.glob("*.gif")]):
            if file.stem in ("reconstructions", "samples", "traversal"):
                image = np.asarray(Image.open(file).convert("RGB"))
                self._writer.add_image(file.stem, image, dataformats="HWC")
        self._writer.close()
        self._callback.on_finish(path)
