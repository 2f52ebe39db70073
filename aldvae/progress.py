"""Telling the user on standard error how a run goes: a live line in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Self

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn, TimeElapsedColumn

from aldvae.compression.rules import METRICS
from aldvae.config import RunConfig
from aldvae.executors import Ended, EpochDone, State
from aldvae.observer import Observer
from aldvae.pace import Pace, duration, together
from aldvae.sweeps import Job

if TYPE_CHECKING:
    from aldvae.compression.compressor import Step

# In a log: lines for a run, and seconds between two lines for a sweep.
_PLAIN_LINES = 20
_PLAIN_SECONDS = 30.0


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


class SweepDisplay(_Live):
    """Shows all runs of a sweep at once: what is done, running and failed, and the time left."""

    def __init__(self, jobs: Sequence[Job], done: int, pace: Pace, slots: int) -> None:
        """Begin with `done` of all runs finished before; `jobs` are those that are left."""
        super().__init__()
        self._pace, self._slots = pace, slots
        self._left = {job.config.name: (job.config, 0) for job in jobs}
        self._done, self._failed, self._total = done, 0, done + len(jobs)
        self._all = self._bar.add_task("", total=self._total, completed=done, left="")
        self._tasks: dict[str, TaskID] = {}
        self._running: dict[str, str] = {}
        self._told = time.monotonic()
        self._refresh()

    def started(self, job: Job) -> None:
        """Give the run a line."""
        self._tasks[job.config.name] = self._bar.add_task(job.config.name, total=job.config.epochs, left="starting")
        self._refresh()

    def epoch_done(self, job: Job, event: EpochDone) -> None:
        """Show the epoch; in a log, a line for all runs from time to time."""
        self._pace.add(job.config, event.seconds)
        self._left[event.run] = (job.config, event.epoch)
        where = f"epoch {event.epoch}/{job.config.epochs}, size {event.latent_dim}"
        self._running[event.run] = where
        self._bar.update(self._tasks[event.run], completed=event.epoch, left=where)
        self._refresh()
        if not self.console.is_terminal and time.monotonic() - self._told > _PLAIN_SECONDS:
            self._told = time.monotonic()
            self.note(self._status())
            for run in self._tasks:
                self.note(f"  {run}: {self._running.get(run, 'starting')}")

    def ended(self, job: Job, event: Ended) -> None:
        """Take the run's line away, and say how it ended."""
        self._bar.remove_task(self._tasks.pop(job.config.name))
        self._running.pop(job.config.name, None)
        if event.state in (State.FINISHED, State.SKIPPED, State.FAILED):
            del self._left[event.run]
            self._failed += event.state is State.FAILED
            self._done += event.state is not State.FAILED
            reason = f": {event.reason}" if event.reason else ""
            self.note(f"{event.run} {event.state.value}{reason} [{self._status()}]")
        self._refresh()

    def _refresh(self) -> None:
        self._bar.update(self._all, completed=self._done + self._failed, description=self._status())

    def _status(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._total} done, {len(self._tasks)} running{failed}, {self._time_left()}"

    def _time_left(self) -> str:
        left = [self._pace.left(config, done) for config, done in self._left.values()]
        if None in left:
            return "time left unknown"
        return f"{duration(together([seconds for seconds in left if seconds is not None], self._slots))} left"
