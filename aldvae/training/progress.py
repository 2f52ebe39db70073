"""The progress of a run on standard error: a live line in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aldvae.config.run_config import RunConfig
from aldvae.metrics.table import METRICS
from aldvae.training.callbacks import Callback, Row
from aldvae.training.phases import Phases

if TYPE_CHECKING:
    from aldvae.compression.steps import Step

# How many lines a run writes into a log.
_LOG_LINES = 20


# The metrics of the paper's figures.
_SHOWN_METRICS = [metric.name for metric in METRICS.values() if metric.paper_row is not None]


class LiveDisplay:
    """Progress bars in the last lines of a terminal; a context manager, which removes them at its end."""

    def __init__(self) -> None:
        """Nothing is shown until the context is entered."""
        # In a notebook, plain lines are easier to read than what rich displays there.
        self.console = Console(stderr=True, highlight=False, soft_wrap=True, force_jupyter=False)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[status]}"),
        )
        self._bar = Progress(*columns, console=self.console, transient=True)

    def __enter__(self) -> Self:
        """Show the bars, if standard error is a terminal."""
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Remove the bars."""
        if self.console.is_terminal:
            self._bar.stop()

    def on_message(self, text: str, general: bool = False) -> None:  # noqa: ARG002
        """Print `text` as a line."""
        self.console.print(f"aldvae: {text}", markup=False)


class Display(LiveDisplay, Callback):
    """Shows the progress of one run, its curve included unless `answer_only` is asked for."""

    def __init__(self, answer_only: bool = False) -> None:
        """Nothing is shown until the run starts."""
        super().__init__()
        self._answer_only = answer_only
        self._task = self._bar.add_task("", start=False, status="", visible=False)

    def on_start(self, config: RunConfig, first_epoch: int) -> None:
        """Show the bar and start its clock."""
        self.config, self._phases, self._phase = config, Phases(config, first_epoch), ""
        self._start, self._done = time.monotonic(), 0
        if first_epoch > 1:
            self.on_message(f"resuming {config.name} at epoch {first_epoch}")
        self._bar.start_task(self._task)
        self._bar.update(self._task, total=config.training.epochs, completed=first_epoch - 1, visible=True)

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:
        """Show the epoch; in a log, about twenty of them and each new phase. Always report a stop and a slow-down."""
        epochs, size = self.config.training.epochs, int(row["latent_dim"])
        words = self._phases.describe(epoch, size, step)
        metrics = "  ".join(f"{metric} {row[metric]:.4g}" for metric in _SHOWN_METRICS if metric in row)
        expected = min(size, self._phases.n_informative or size)
        total = epochs if self._answer_only else epochs + planned_curve_epochs(self.config, expected)
        is_due = epoch % max(1, epochs // _LOG_LINES) == 0 or epoch == epochs or self._phases.name != self._phase
        self._phase = self._phases.name
        self._show(f"epoch {epoch}/{epochs}  {words}  {metrics}", epoch, total, is_due)
        if step is not None:
            self._report_decision(step)

    def on_curve_epoch(self, epoch: int, epochs: int, latent_dim: int) -> None:
        """Show the size of the curve; in a log, each once."""
        words, before = f"curve: size {latent_dim}", self.config.training.epochs
        is_due, self._phase = words != self._phase, words
        self._show(f"epoch {before + epoch}/{before + epochs}  {words}", before + epoch, before + epochs, is_due)

    def _show(self, line: str, epoch: int, total: int, is_due: bool) -> None:
        """Show `line` and the time left at `epoch` of all `total` epochs; in a log only if it `is_due`."""
        self._done += 1
        duration = format_duration((time.monotonic() - self._start) / self._done * (total - epoch))
        left = f"at most {duration} left" if self._answer_only else f"{duration} left"
        self._bar.update(self._task, total=total, completed=epoch, description=line, status=left)
        if is_due and not self.console.is_terminal:
            self.console.print(f"{line}  {left}", markup=False)

    def _report_decision(self, step: Step) -> None:
        decision = step.decision
        if decision is None:
            return
        if decision.stop and not step.removed:
            self.on_message(f"epoch {decision.epoch}: size {step.latent_dim} is final; {decision.reason}")
        elif decision.slowed:
            self.on_message(f"epoch {decision.epoch}: {decision.reason}")


def planned_curve_epochs(config: RunConfig, latent_dim: int) -> int:
    """Return the epochs that the curve of a run takes if it ends with `latent_dim` dimensions; 0 without a curve."""
    compression = config.compression
    if compression is None or not compression.curve:
        return 0
    # Imported here because it imports torch, which a sweep's preview does not need.
    from aldvae.training.curve import Plan

    return Plan.make(latent_dim, config.training.epochs, compression.curve_epochs).total


def format_duration(seconds: float) -> str:
    """Return `seconds` as minutes:seconds, from an hour on as hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
