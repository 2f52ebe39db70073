"""The progress of a run on standard error: a live line in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aldvae.config.run_config import RunConfig
from aldvae.metrics.table import METRICS
from aldvae.training.callbacks import Callback, Row

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
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
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
    """Shows the progress of one run."""

    def __init__(self) -> None:
        """Nothing is shown until the run starts."""
        super().__init__()
        self._task = self._bar.add_task("", start=False, status="", visible=False)

    def on_start(self, config: RunConfig, first_epoch: int) -> None:
        """Show the bar and start its clock."""
        self.config, self._first, self._start, self._curve_size = config, first_epoch, time.monotonic(), 0
        if first_epoch > 1:
            self.on_message(f"resuming {config.name} at epoch {first_epoch}")
        self._bar.start_task(self._task)
        self._bar.update(self._task, total=config.training.epochs, completed=first_epoch - 1, visible=True)

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:
        """Show the epoch; in a log, about twenty of them. Always report a stop and a slow-down."""
        epochs = self.config.training.epochs
        seconds = (time.monotonic() - self._start) / (epoch - self._first + 1) * (epochs - epoch)
        metrics = "  ".join(f"{metric} {row[metric]:.4g}" for metric in _SHOWN_METRICS if metric in row)
        line, left = f"epoch {epoch}/{epochs}  size {row['latent_dim']}  {metrics}", f"{format_duration(seconds)} left"
        self._bar.update(self._task, completed=epoch, description=line, status=left)
        if not self.console.is_terminal and (epoch % max(1, epochs // _LOG_LINES) == 0 or epoch == epochs):
            self.console.print(f"{line}  {left}", markup=False)
        if step is not None:
            self._report_decision(step)

    def on_curve_epoch(self, epoch: int, epochs: int, latent_dim: int) -> None:
        """Show the size of the curve; in a log, each once."""
        if latent_dim != self._curve_size:
            self._curve_size, line = latent_dim, f"curve: size {latent_dim}"
            self._bar.update(self._task, total=epochs, description=line, status="")
            if not self.console.is_terminal:
                self.console.print(line, markup=False)
        self._bar.update(self._task, completed=epoch)

    def _report_decision(self, step: Step) -> None:
        decision = step.decision
        if decision is None:
            return
        if decision.stop and not step.removed:
            self.on_message(f"epoch {decision.epoch}: size {decision.latent_dim} is final; {decision.reason}")
        elif decision.slowed:
            self.on_message(f"epoch {decision.epoch}: {decision.reason}")


def format_duration(seconds: float) -> str:
    """Return `seconds` as minutes:seconds, from an hour on as hours:minutes:seconds."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
