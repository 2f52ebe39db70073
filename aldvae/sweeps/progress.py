"""The progress of a sweep on standard error: live lines in a terminal, plain lines in a log."""

from __future__ import annotations

import time
from collections.abc import Sequence

from rich.progress import TaskID

from aldvae.sweeps.eta import EpochTimes, estimate_wall_time
from aldvae.sweeps.executors.base import Ended, EpochDone, State
from aldvae.sweeps.jobs import Job
from aldvae.training.progress import LiveDisplay, format_duration

# Between two reports in a log.
_LOG_SECONDS = 30.0


class SweepDisplay(LiveDisplay):
    """Shows how many runs are done, running and failed, the epoch of each, and the time left."""

    def __init__(self, jobs: Sequence[Job], done: int, times: EpochTimes, slots: int) -> None:
        """`jobs` are those left to do; `done` runs were finished before."""
        super().__init__()
        self._times, self._slots = times, slots
        self._unfinished = {job.config.name: (job.config, 0) for job in jobs}
        self._done, self._failed, self._total = done, 0, done + len(jobs)
        self._sweep_task = self._bar.add_task("", total=self._total, completed=done, status="")
        self._tasks: dict[str, TaskID] = {}
        self._statuses: dict[str, str] = {}
        self._last_report = time.monotonic()
        self._refresh()

    def on_start(self, job: Job) -> None:
        """Add a bar for the run."""
        self._tasks[job.config.name] = self._bar.add_task(
            job.config.name, total=job.config.training.epochs, status="starting"
        )
        self._refresh()

    def on_epoch_end(self, job: Job, event: EpochDone) -> None:
        """Show the epoch; in a log, report all runs from time to time."""
        self._times.add(job.config, event.seconds)
        self._unfinished[event.run] = (job.config, event.epoch)
        epochs = job.config.training.epochs
        what = f"epoch {event.epoch}/{epochs}," if event.epoch <= epochs else "curve:"
        status = f"{what} size {event.latent_dim}"
        self._statuses[event.run] = status
        self._bar.update(self._tasks[event.run], completed=event.epoch, status=status)
        self._refresh()
        if not self.console.is_terminal and time.monotonic() - self._last_report > _LOG_SECONDS:
            self._report()

    def _report(self) -> None:
        self._last_report = time.monotonic()
        self.on_message(self._status())
        for run in self._tasks:
            self.on_message(f"  {run}: {self._statuses.get(run, 'starting')}")

    def on_end(self, job: Job, event: Ended) -> None:
        """Remove the run's bar, and report how it ended."""
        self._bar.remove_task(self._tasks.pop(job.config.name))
        self._statuses.pop(job.config.name, None)
        if event.state in (State.FINISHED, State.SKIPPED, State.FAILED):
            del self._unfinished[event.run]
            self._failed += event.state is State.FAILED
            self._done += event.state is not State.FAILED
            reason = f": {event.reason}" if event.reason else ""
            self.on_message(f"{event.run} {event.state.value}{reason} [{self._status()}]")
        self._refresh()

    def _refresh(self) -> None:
        self._bar.update(self._sweep_task, completed=self._done + self._failed, description=self._status())

    def _status(self) -> str:
        failed = f", {self._failed} failed" if self._failed else ""
        return f"{self._done} of {self._total} done, {len(self._tasks)} running{failed}, {self._time_left()}"

    def _time_left(self) -> str:
        seconds = [self._times.remaining(config, epochs_done) for config, epochs_done in self._unfinished.values()]
        estimates = [value for value in seconds if value is not None]
        if len(estimates) < len(seconds):
            return "time left unknown"
        return f"{format_duration(estimate_wall_time(estimates, self._slots))} left"
