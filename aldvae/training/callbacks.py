"""Hooks into a run, for progress displays, loggers and tests."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from aldvae.compression.steps import Step
    from aldvae.config.run_config import RunConfig

# A row of one of a run's tables, by column.
Row = Mapping[str, float | str]


class Callback:
    """Receives the progress of a run; a hook does nothing until a subclass overrides it.

    ::

        from aldvae.training.loop import run

        class PrintLoss(Callback):
            def on_epoch_end(self, epoch, row, step):
                print(epoch, row["train_loss"])

        run(config, execution, PrintLoss())

    `on_start` is called once, then `on_epoch_end` after each epoch, `on_curve_epoch` after each
    of the curve, if there is one, then `on_finish`; `on_message` at any time. An
    exception raised by a hook ends the run; the same command resumes it from its last checkpoint.
    """

    def on_message(self, text: str, general: bool = False) -> None:
        """Receive a line for the user; a `general` one applies to all runs with the same settings."""

    def on_start(self, config: RunConfig, first_epoch: int) -> None:
        """Called before the first epoch of this session, `first_epoch`: 1, or more for a resumed run."""

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:
        """Called after `epoch` (from 1 on), when its checkpoint is written.

        `row` is its row of ``metrics.csv``, without the columns that were not measured. `step` is what the compressor
        did; None for a model of fixed size.
        """

    def on_curve_epoch(self, epoch: int, epochs: int, latent_dim: int) -> None:
        """Called after each of the `epochs` of the run's curve, from 1 on, in which the size was `latent_dim`."""

    def on_finish(self, path: Path) -> None:
        """Called when the run is finished and its directory, `path`, is complete."""
