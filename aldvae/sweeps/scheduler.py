"""The driver of a sweep: submits jobs, retries those whose worker died, and handles interrupts."""

from __future__ import annotations

import signal
import time
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Protocol

from aldvae.runs.directory import RunDirectory
from aldvae.sweeps.executors.base import Ended, EpochDone, Event, Executor, Message, State
from aldvae.sweeps.jobs import Job
from aldvae.sweeps.stacking import stack_key

RETRIES = 2
# Seconds to wait after an interrupt for the current epochs.
GRACE = 8.0
# Seconds until a run that another process works on is tried again.
_BUSY_SECONDS = 1.0


class SweepCallback(Protocol):
    """Receives the progress of a sweep."""

    def on_message(self, text: str) -> None:
        """Receive a line for the user."""

    def on_start(self, job: Job) -> None:
        """Called when the job is submitted."""

    def on_epoch_end(self, job: Job, event: EpochDone) -> None:
        """Called after an epoch of the job."""

    def on_end(self, job: Job, event: Ended) -> None:
        """Called when the job has ended; one that was busy or whose worker died may start again."""


class Scheduler:
    """Executes jobs on an executor; `ends` holds the last end of each by the run's name."""

    def __init__(self, executor: Executor, results_dir: Path, callback: SweepCallback, stack_size: int = 1) -> None:
        """Up to `stack_size` runs that can be stacked are submitted together."""
        self.stack_size = stack_size
        self.executor, self.results_dir, self.callback = executor, results_dir, callback
        self.ends: dict[str, Ended] = {}
        self.interrupted = False
        self._waiting: deque[Job] = deque()
        # Jobs that were busy, each with the time when it is tried again.
        self._busy: deque[tuple[float, Job]] = deque()
        self._running: dict[str, Job] = {}
        self._stacks: list[set[str]] = []
        self._general_messages: set[str] = set()
        self._deaths: Counter[str] = Counter()
        self._deadline = float("inf")

    def run(self, jobs: Sequence[Job]) -> None:
        """Execute `jobs`.

        After an interrupt, running jobs end after their current epoch and waiting ones are not started; a second
        interrupt raises `KeyboardInterrupt`.
        """
        self._waiting.extend(jobs)
        with _on_interrupt(self._interrupt):
            while self._running or (not self.interrupted and (self._waiting or self._busy)):
                self._submit()
                for event in self.executor.events(timeout=0.2):
                    self._handle(event)
                if time.monotonic() > self._deadline:
                    self.callback.on_message("an epoch takes too long; its run will resume from the epoch before")
                    break

    def _interrupt(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self._deadline = time.monotonic() + GRACE
        self.callback.on_message("interrupted: ending after the current epochs; interrupt again to end now")
        self.executor.stop()

    def _submit(self) -> None:
        while self._busy and self._busy[0][0] <= time.monotonic():
            self._waiting.append(self._busy.popleft()[1])
        self._stacks = [names for names in self._stacks if names & self._running.keys()]
        while self._waiting and len(self._stacks) < self.executor.slots and not self.interrupted:
            stack = self._next_stack()
            self._stacks.append({job.config.name for job in stack})
            for job in stack:
                self._running[job.config.name] = job
                self.callback.on_start(job)
            self.executor.submit(stack)

    def _next_stack(self) -> list[Job]:
        """Remove the next job from the queue, with others that can be stacked with it unless its worker died before."""
        stack = [self._waiting.popleft()]
        key = stack_key(stack[0].config)
        if self.stack_size > 1 and key is not None and not self._deaths[stack[0].config.name]:
            matching = [job for job in self._waiting if stack_key(job.config) == key]
            stack += matching[: self.stack_size - 1]
            names = {job.config.name for job in stack}
            self._waiting = deque(job for job in self._waiting if job.config.name not in names)
        return stack

    def _handle(self, event: Event) -> None:
        job = self._running[event.run]
        if isinstance(event, Message):
            if not event.general:
                self.callback.on_message(f"{event.run}: {event.text}")
            elif event.text not in self._general_messages:
                self._general_messages.add(event.text)
                self.callback.on_message(event.text)
        elif isinstance(event, EpochDone):
            self.callback.on_epoch_end(job, event)
        else:
            del self._running[event.run]
            self._end(job, event)

    def _end(self, job: Job, event: Ended) -> None:
        if event.state is State.BUSY:
            if job.config.name not in self.ends:
                self.callback.on_message(f"{event.reason}; it is tried again later")
            self._busy.append((time.monotonic() + _BUSY_SECONDS, job))
        elif event.state is State.LOST:
            event = self._retry(job, event)
        if event.state is State.FAILED:
            self._record_failure(job, event)
        self.ends[event.run] = event
        self.callback.on_end(job, event)

    def _retry(self, job: Job, event: Ended) -> Ended:
        """Queue a job whose worker died to resume from its checkpoint; after `RETRIES` times, return its failure."""
        self._deaths[event.run] += 1
        deaths = self._deaths[event.run]
        if deaths > RETRIES:
            return Ended(event.run, State.FAILED, f"{event.reason}, {deaths} times")
        if not self.interrupted:
            retry = f"trying again from its checkpoint ({deaths} of {RETRIES})"
            self.callback.on_message(f"{event.run}: {event.reason}; {retry}")
            self._waiting.appendleft(job)
        return event

    def _record_failure(self, job: Job, event: Ended) -> None:
        try:
            RunDirectory(self.results_dir, job.config).record_failure(event.reason, event.traceback)
        except OSError as error:
            self.callback.on_message(f"{event.run}: its failure could not be recorded: {error.strerror or error}")


@contextmanager
def _on_interrupt(react: Callable[[], None]) -> Iterator[None]:
    """Call `react` at SIGINT and SIGTERM."""
    signals = (signal.SIGINT, signal.SIGTERM)

    def handle(_: int, __: FrameType | None) -> None:
        react()

    before = [signal.signal(number, handle) for number in signals]
    try:
        yield
    finally:
        for number, handler in zip(signals, before, strict=True):
            signal.signal(number, handler)
