"""Watching a run live in TensorBoard: the columns of its metrics as scalars, and its images."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from aldvae.training.logger import Logger
from aldvae.utils.errors import ConfigError

if TYPE_CHECKING:
    from aldvae.config.run_config import RunConfig

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise ConfigError("tensorboard", "needs TensorBoard; pip install 'aldvae[tensorboard]'") from error


class TensorBoard(Logger):
    """Writes a run's progress into its directory for TensorBoard."""

    def start(self, config: RunConfig, first_epoch: int) -> None:  # noqa: ARG002
        """Open the event file; TensorBoard drops what a killed process wrote from `first_epoch` on."""
        self._writer = SummaryWriter(str(self.path), purge_step=first_epoch)

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        """Write a scalar for each number."""
        for name, value in metrics.items():
            self._writer.add_scalar(name, value, epoch)
        self._writer.flush()

    def finish(self, answer: dict[str, float], images: list[Path]) -> None:  # noqa: ARG002
        """Write the images; of an animation, its first frame."""
        for file in images:
            self._writer.add_image(file.stem, np.asarray(Image.open(file).convert("RGB")), dataformats="HWC")
        self._writer.close()
