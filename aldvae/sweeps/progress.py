"""Telling the user on standard error how a run goes: a live line in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.progress import TaskID

from aldvae.sweeps.eta import Pace, together
from aldvae.sweeps.executors.base import Ended, EpochDone, State
from aldvae.sweeps.jobs import Job
from aldvae.training.progress import duration

if TYPE_CHECKING:
    pass
from aldvae.training.progress import _Live

_PLAIN_SECONDS = 30.0


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
