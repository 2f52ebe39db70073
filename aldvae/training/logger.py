"""The base of loggers: callbacks that send the progress of a run to a tracker."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from aldvae.runs.results import read_result
from aldvae.training.callbacks import Callback, Row

if TYPE_CHECKING:
    from aldvae.compression.steps import Step
    from aldvae.config.run_config import RunConfig

_IMAGES = ("reconstructions", "samples", "traversal")


class Logger(Callback, ABC):
    """Sends a run's progress to a tracker, and forwards every hook to another callback.

    A subclass implements `start`, `log` and `finish`.
    """

    def __init__(self, callback: Callback, path: Path) -> None:
        """Log the run in the directory `path`; forward to `callback`."""
        self.callback, self.path = callback, path

    @abstractmethod
    def start(self, config: RunConfig, first_epoch: int) -> None:
        """Begin to log a run, or go on with one, whose next epoch is `first_epoch`."""

    @abstractmethod
    def log(self, metrics: dict[str, float], epoch: int) -> None:
        """Log the numbers of an epoch by name."""

    @abstractmethod
    def finish(self, answer: dict[str, float], images: list[Path]) -> None:
        """Log the numbers of the summary and the image files (PNG; GIF for video), and end."""

    def on_message(self, text: str, general: bool = False) -> None:
        """Forward the message."""
        self.callback.on_message(text, general)

    def on_start(self, config: RunConfig, first_epoch: int) -> None:
        """Start logging."""
        self.start(config, first_epoch)
        self.callback.on_start(config, first_epoch)

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:
        """Log every number of the row."""
        self.log({name: value for name, value in _numbers(row).items() if name != "epoch"}, epoch)
        self.callback.on_epoch_end(epoch, row, step)

    def on_curve_epoch(self, epoch: int, epochs: int, latent_dim: int) -> None:
        """Forward the epoch."""
        self.callback.on_curve_epoch(epoch, epochs, latent_dim)

    def on_finish(self, path: Path) -> None:
        """Log the answer and the images."""
        result = read_result(path)
        assert result is not None
        images = [file for name in _IMAGES if (file := result.image(name)) is not None]
        self.finish(_numbers(dict(result.answer)), images)
        self.callback.on_finish(path)


def _numbers(values: Mapping[str, object]) -> dict[str, float]:
    return {name: value for name, value in values.items() if isinstance(value, int | float)}
