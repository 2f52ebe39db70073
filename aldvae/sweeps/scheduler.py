"""The driver of a sweep: hands out jobs, tries again what died, and ends in good order."""

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
from aldvae.sweeps.executors.base import Ended, EpochDone, Event, Executor, Note, State
from aldvae.sweeps.jobs import Job
from aldvae.sweeps.stacking import stack_key

RETRIES = 2
# Seconds: for the epoch that is under way at an interrupt, and until a run of another process is looked at again.
GRACE = 8.0
_LOOK_AGAIN = 1.0


class SweepObserver(Protocol):
    """Hears how a sweep goes on."""

    def note(self, text: str) -> None:
        """Something the user should know."""

    def started(self, job: Job) -> None:
        """A worker takes the job."""

    def epoch_done(self, job: Job, event: EpochDone) -> None:
        """An epoch of the job is over."""

    def ended(self, job: Job, event: Ended) -> None:
        """The job is over, or waits for its turn again."""


class Scheduler:
    """Does jobs on an executor; `ends` tells what became of each."""

    def __init__(self, executor: Executor, results_dir: Path, observer: SweepObserver, population: int = 1) -> None:
        """Nothing is begun yet; up to `population` runs that can be stacked are handed out as one batch."""
        self.population = population
        self.executor, self.results_dir, self.observer = executor, results_dir, observer
        self.ends: dict[str, Ended] = {}
        self.interrupted = False
        self._waiting: deque[Job] = deque()
        self._later: deque[tuple[float, Job]] = deque()
        self._running: dict[str, Job] = {}
        self._batches: list[set[str]] = []
        self._remarked: set[str] = set()
        self._lost: Counter[str] = Counter()
        self._deadline = float("inf")

    def run(self, jobs: Sequence[Job]) -> None:
        """Do `jobs`; after an interrupt, what is left stays without an end. A second interrupt ends at once."""
        self._waiting.extend(jobs)
        with _on_interrupt(self._interrupt):
            while self._running or (not self.interrupted and (self._waiting or self._later)):
                self._submit()
                for event in self.executor.events(timeout=0.2):
                    self._take(event)
                if time.monotonic() > self._deadline:
                    self.observer.note("an epoch takes too long to wait for; its run goes on from the one before")
                    break

    def _interrupt(self) -> None:
        if self.interrupted:
            raise KeyboardInterrupt
        self.interrupted = True
        self._deadline = time.monotonic() + GRACE
        self.observer.note("interrupted: ending after the epochs under way; once more to end at once")
        self.executor.stop()

    def _submit(self) -> None:
        while self._later and self._later[0][0] <= time.monotonic():
            self._waiting.append(self._later.popleft()[1])
        self._batches = [batch for batch in self._batches if batch & self._running.keys()]
        while self._waiting and len(self._batches) < self.executor.slots and not self.interrupted:
            batch = self._next_batch()
            self._batches.append({job.config.name for job in batch})
            for job in batch:
                self._running[job.config.name] = job
                self.observer.started(job)
            self.executor.submit(batch)

    def _next_batch(self) -> list[Job]:
        """Take the next job, and others that can be trained with it; one whose worker died goes alone."""
        batch = [self._waiting.popleft()]
        key = stack_key(batch[0].config)
        if self.population > 1 and key is not None and not self._lost[batch[0].config.name]:
            fitting = [job for job in self._waiting if stack_key(job.config) == key]
            batch += fitting[: self.population - 1]
            taken = {job.config.name for job in batch}
            self._waiting = deque(job for job in self._waiting if job.config.name not in taken)
        return batch

    def _take(self, event: Event) -> None:
        job = self._running[event.run]
        if isinstance(event, Note):
            if not event.general:
                self.observer.note(f"{event.run}: {event.text}")
            elif event.text not in self._remarked:
                self._remarked.add(event.text)
                self.observer.note(event.text)
        elif isinstance(event, EpochDone):
            self.observer.epoch_done(job, event)
        else:
            del self._running[event.run]
            self._end(job, event)

    def _end(self, job: Job, event: Ended) -> None:
        if event.state is State.BUSY:
            if job.config.name not in self.ends:
                self.observer.note(f"{event.reason}; it is looked at again later")
            self._later.append((time.monotonic() + _LOOK_AGAIN, job))
        elif event.state is State.LOST:
            event = self._lose(job, event)
        if event.state is State.FAILED:
            self._record(job, event)
        self.ends[event.run] = event
        self.observer.ended(job, event)

    def _lose(self, job: Job, event: Ended) -> Ended:
        """Try again what a dead worker did, from its checkpoint; after `RETRIES` times it has failed."""
        self._lost[event.run] += 1
        if self._lost[event.run] > RETRIES:
            return Ended(event.run, State.FAILED, f"{event.reason}, {self._lost[event.run]} times")
        if not self.interrupted:
            again = f"trying again from its checkpoint ({self._lost[event.run]} of {RETRIES})"
            self.observer.note(f"{event.run}: {event.reason}; {again}")
            self._waiting.appendleft(job)
        return event

    def _record(self, job: Job, event: Ended) -> None:
        try:
            RunDirectory(self.results_dir, job.config).record_failure(event.reason, event.traceback)
        except OSError as error:
            self.observer.note(f"{event.run}: its failure could not be written down: {error.strerror or error}")


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
