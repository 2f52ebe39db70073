"""What may be told of a run while it goes on."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aldvae.compression.compressor import Step
    from aldvae.config.run_config import RunConfig


class Observer:
    """Hears of a run; every method does nothing until it is overridden."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def remark(self, text: str) -> None:
        """Something that holds for all runs with these settings."""

    def started(self, config: RunConfig, first_epoch: int) -> None:
        """The first epoch of this session, `first_epoch`, is about to begin."""

    def epoch_done(self, row: dict[str, Any], step: Step | None) -> None:
        """An epoch is over and its checkpoint written.

        Hears its row of ``metrics.csv``, and what the compressor did (None for a fixed size). An exception raised here
        ends the run; the same command goes on from this epoch.
        """

    def finished(self, path: Path) -> None:
        """The run is finished, and all its files lie in its directory `path`."""
