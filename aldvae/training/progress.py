"""Shows on standard error how one run goes: a live line in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from aldvae.compression.rules.slopes import METRICS
from aldvae.config.run_config import RunConfig
from aldvae.training.callbacks import Observer

if TYPE_CHECKING:
    from aldvae.compression.compressor import Step


# In a log: lines for a run, and seconds between two lines for a sweep.
_PLAIN_LINES = 20


class _Live:
    """Lines at the end of the terminal, if there is a terminal; a context manager, since they must be ended."""

    def __init__(self) -> None:
        self.console = Console(stderr=True, highlight=False, soft_wrap=True)
        columns = (
            TextColumn("{task.description}"),
            BarColumn(20),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
        )
        self._bar = Progress(*columns, console=self.console, transient=True)

    def __enter__(self) -> Self:
        """Take over the terminal's last lines."""
        if self.console.is_terminal:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Give them back."""
        if self.console.is_terminal:
            self._bar.stop()

    def note(self, text: str) -> None:
        """Print `text` on a line of its own."""
        self.console.print(f"aldvae: {text}", markup=False)


class Display(_Live, Observer):
    """Shows one run."""

    def __init__(self) -> None:
        """Nothing is shown before the run has started."""
        super().__init__()
        self._task = self._bar.add_task("", start=False, left="", visible=False)

    def remark(self, text: str) -> None:
        """Print it as any note."""
        self.note(text)

    def started(self, config: RunConfig, first_epoch: int) -> None:
        """Begin to count the time."""
        self.config, self._first, self._begin = config, first_epoch, time.monotonic()
        if first_epoch > 1:
            self.note(f"resuming {config.name} at epoch {first_epoch}")
        self._bar.start_task(self._task)
        self._bar.update(self._task, total=config.epochs, completed=first_epoch - 1, visible=True)

    def epoch_done(self, row: dict[str, Any], step: Step | None) -> None:
        """Show the epoch; in a log, about twenty of them, and every decision that changes the course."""
        epoch, epochs = row["epoch"], self.config.epochs
        left = (time.monotonic() - self._begin) / (epoch - self._first + 1) * (epochs - epoch)
        figures = "  ".join(f"{metric} {row[metric]:.4g}" for metric in METRICS if metric in row)
        line = f"epoch {epoch}/{epochs}  size {row['latent_dim']}  {figures}"
        self._bar.update(self._task, completed=epoch, description=line, left=f"{duration(left)} left")
        if not self.console.is_terminal and (epoch % max(1, epochs // _PLAIN_LINES) == 0 or epoch == epochs):
            self.console.print(f"{line}  {duration(left)} left", markup=False)
        if step is not None and step.decision is not None and (step.decision.stop or step.decision.slowed):
            self._tell(step)

    def _tell(self, step: Step) -> None:
        decision = step.decision
        assert decision is not None
        if decision.stop and not step.removed:
            self.note(f"epoch {decision.epoch}: size {decision.latent_dim} is final; {decision.reason}")
        elif decision.slowed:
            self.note(f"epoch {decision.epoch}: {decision.reason}")


def duration(seconds: float) -> str:
    """Return `seconds` as minutes:seconds, or with hours before them."""
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{seconds:02}" if hours else f"{minutes}:{seconds:02}"
