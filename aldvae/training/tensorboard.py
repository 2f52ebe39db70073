"""Watching a run live in TensorBoard: the columns of its tables as scalars, and its pictures."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from aldvae.training.callbacks import Observer
from aldvae.utils.errors import ConfigError

if TYPE_CHECKING:
    from aldvae.compression.compressor import Step
    from aldvae.config.run_config import RunConfig

try:
    from torch.utils.tensorboard import SummaryWriter
except ImportError as error:
    raise ConfigError("tensorboard", "needs TensorBoard; pip install 'aldvae[tensorboard]'") from error


class TensorBoard(Observer):
    """Passes everything on to another observer, and writes it into the run's directory for TensorBoard."""

    def __init__(self, observer: Observer, path: Path) -> None:
        """Write beside the run's tables in `path`."""
        self._observer, self._path = observer, path

    def note(self, text: str) -> None:
        """Pass it on."""
        self._observer.note(text)

    def remark(self, text: str) -> None:
        """Pass it on."""
        self._observer.remark(text)

    def started(self, config: RunConfig, first_epoch: int) -> None:
        """Open the file; what a killed process wrote of later epochs no longer counts."""
        self._writer = SummaryWriter(str(self._path), purge_step=first_epoch)
        self._observer.started(config, first_epoch)

    def epoch_done(self, row: dict[str, Any], step: Step | None) -> None:
        """Write every number of the row."""
        for name, value in row.items():
            if isinstance(value, int | float) and name != "epoch":
                self._writer.add_scalar(name, value, row["epoch"])
        self._writer.flush()
        self._observer.epoch_done(row, step)

    def finished(self, path: Path) -> None:
        """Write the pictures; of an animation, its first frame."""
        for file in sorted([*path.glob("*.png"), *path.glob("*.gif")]):
            if file.stem in ("reconstructions", "samples", "traversal"):
                picture = np.asarray(Image.open(file).convert("RGB"))
                self._writer.add_image(file.stem, picture, dataformats="HWC")
        self._writer.close()
        self._observer.finished(path)
