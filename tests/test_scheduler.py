from __future__ import annotations

import os
import signal
import time
from collections import deque
from collections.abc import Sequence
from pathlib import Path

import pytest

from aldvae.runs.directory import FAILURE
from aldvae.sweeps import scheduler
from aldvae.sweeps.executors.base import Ended, EpochDone, Event, Message, State
from aldvae.sweeps.jobs import Job
from aldvae.sweeps.scheduler import RETRIES, Scheduler
from tests.conftest import sweep


class Script:
    """An executor that returns scripted events for each attempt at each run, one at a time."""

    def __init__(self, slots: int, attempts: dict[int, list[list[Event]]], jobs: list[Job]) -> None:
        self.slots, self.stopped = slots, False
        self._attempts = {jobs[number].config.name: deque(events) for number, events in attempts.items()}
        self._running: dict[str, deque[Event]] = {}
        self.submitted: list[str] = []
        self.max_running = 0
        self.stacks: list[int] = []

    def submit(self, stack: Sequence[Job]) -> None:
        for job in stack:
            self._submit(job.config.name)
        self.stacks.append(len(stack))

    def _submit(self, name: str) -> None:
        self.submitted.append(name)
        attempts = self._attempts.get(name)
        events = attempts.popleft() if attempts else [Ended(name, State.FINISHED)]
        self._running[name] = deque(events)
        self.max_running = max(self.max_running, len(self._running))

    def events(self, timeout: float) -> list[Event]:
        found = []
        for name in list(self._running):
            event = self._running[name].popleft() if self._running[name] else None
            if event is None and self.stopped:
                event = Ended(name, State.STOPPED)
            if event is None:
                time.sleep(min(timeout, 0.01))
                continue
            if isinstance(event, Ended):
                del self._running[name]
            found.append(event)
        return found

    def stop(self) -> None:
        self.stopped = True

    def close(self) -> None:
        self._running.clear()


class Recorder:
    """Records messages and started jobs."""

    def __init__(self) -> None:
        self.messages: list[str] = []
        self.started: list[str] = []

    def on_message(self, text: str) -> None:
        self.messages.append(text)

    def on_start(self, job: Job) -> None:
        self.started.append(job.config.name)

    def on_epoch_end(self, job: Job, event: EpochDone) -> None:
        assert job.config.name == event.run

    def on_end(self, job: Job, event: Ended) -> None:
        assert job.config.name == event.run


JOBS = sweep("seeds", "digits", seeds=range(6))
NAMES = [job.config.name for job in JOBS]


def test_every_job_is_executed_once_and_at_most_one_per_slot_at_a_time(tmp_path: Path) -> None:
    script = Script(2, {n: [[EpochDone(NAMES[n], 1, 9, 0.1), Ended(NAMES[n], State.FINISHED)]] for n in range(6)}, JOBS)
    scheduled = Scheduler(script, tmp_path, Recorder())
    scheduled.run(JOBS)
    assert script.submitted == NAMES
    assert script.max_running == 2
    assert {end.state for end in scheduled.ends.values()} == {State.FINISHED}


def test_a_failure_is_recorded_and_the_other_runs_continue(tmp_path: Path) -> None:
    failure = Ended(NAMES[1], State.FAILED, "boom", "Traceback\nboom\n")
    scheduled = Scheduler(Script(1, {1: [[failure]]}, JOBS), tmp_path, Recorder())
    scheduled.run(JOBS)
    assert [scheduled.ends[name].state is State.FAILED for name in NAMES] == [False, True, False, False, False, False]
    assert (tmp_path / NAMES[1] / FAILURE).read_text() == "boom\n\nTraceback\nboom\n"


@pytest.mark.parametrize("deaths", range(RETRIES + 3))
def test_a_dead_worker_is_replaced_twice_at_most(tmp_path: Path, deaths: int) -> None:
    lost: list[list[Event]] = [[Ended(NAMES[0], State.LOST, "killed")] for _ in range(deaths)]
    script, recorder = Script(1, {0: lost}, JOBS), Recorder()
    scheduled = Scheduler(script, tmp_path, recorder)
    scheduled.run(JOBS)
    survives = deaths <= RETRIES
    assert scheduled.ends[NAMES[0]].state is (State.FINISHED if survives else State.FAILED)
    assert script.submitted.count(NAMES[0]) == min(deaths, RETRIES) + 1
    assert (tmp_path / NAMES[0] / FAILURE).exists() != survives
    assert sum("trying again" in text for text in recorder.messages) == min(deaths, RETRIES)
    assert {scheduled.ends[name].state for name in NAMES[1:]} == {State.FINISHED}


def test_a_run_in_use_by_another_process_is_tried_again_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_BUSY_SECONDS", 0.02)
    busy: list[Event] = [Ended(NAMES[0], State.BUSY, f"{NAMES[0]} is being worked on")]
    script = Script(1, {0: [busy, busy, [Ended(NAMES[0], State.SKIPPED)]]}, JOBS)
    recorder = Recorder()
    scheduled = Scheduler(script, tmp_path, recorder)
    scheduled.run(JOBS)
    assert scheduled.ends[NAMES[0]].state is State.SKIPPED
    assert script.submitted.count(NAMES[0]) == 3
    assert sum("being worked on" in text for text in recorder.messages) == 1


def test_a_message_that_concerns_all_runs_is_shown_once(tmp_path: Path) -> None:
    attempts: dict[int, list[list[Event]]] = {
        n: [[Message(name, "the same", general=True), Message(name, "its own"), Ended(name, State.FINISHED)]]
        for n, name in enumerate(NAMES)
    }
    recorder = Recorder()
    Scheduler(Script(2, attempts, JOBS), tmp_path, recorder).run(JOBS)
    assert sum("the same" in text for text in recorder.messages) == 1
    assert sum("its own" in text for text in recorder.messages) == 6


def test_an_interrupt_lets_running_jobs_end_and_starts_no_other(tmp_path: Path) -> None:
    class Interrupting(Recorder):
        def on_epoch_end(self, job: Job, event: EpochDone) -> None:
            super().on_epoch_end(job, event)
            os.kill(os.getpid(), signal.SIGTERM)

    script = Script(1, {0: [[EpochDone(NAMES[0], 1, 9, 0.1)]]}, JOBS)
    scheduled = Scheduler(script, tmp_path, Interrupting())
    before = signal.getsignal(signal.SIGTERM)
    scheduled.run(JOBS)
    assert scheduled.interrupted
    assert script.submitted == NAMES[:1]
    assert scheduled.ends[NAMES[0]].state is State.STOPPED
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    class Twice(Recorder):
        def on_epoch_end(self, job: Job, event: EpochDone) -> None:
            super().on_epoch_end(job, event)
            os.kill(os.getpid(), signal.SIGINT)

    epochs: list[Event] = [EpochDone(NAMES[0], epoch, 9, 0.1) for epoch in (1, 2)]
    with pytest.raises(KeyboardInterrupt):
        Scheduler(Script(1, {0: [epochs]}, JOBS), tmp_path, Twice()).run(JOBS)


def test_an_epoch_that_takes_too_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "GRACE", 0.1)

    class Stuck(Script):
        def stop(self) -> None:
            """Ignore the request."""

    class Interrupting(Recorder):
        def on_epoch_end(self, job: Job, event: EpochDone) -> None:
            super().on_epoch_end(job, event)
            os.kill(os.getpid(), signal.SIGINT)

    recorder = Interrupting()
    start = time.monotonic()
    Scheduler(Stuck(1, {0: [[EpochDone(NAMES[0], 1, 9, 0.1)]]}, JOBS), tmp_path, recorder).run(JOBS)
    assert time.monotonic() - start < 5
    assert any("takes too long" in text for text in recorder.messages)


def test_a_stack_is_submitted_together_and_a_run_whose_worker_died_is_retried_alone(tmp_path: Path) -> None:
    lost: list[Event] = [Ended(NAMES[0], State.LOST, "killed")]
    script = Script(1, {0: [lost]}, JOBS)
    scheduled = Scheduler(script, tmp_path, Recorder(), stack_size=4)
    other = sweep("seeds", "mnist", seeds=[0])
    scheduled.run([*JOBS[:2], *other, *JOBS[2:]])
    # Four runs on digits, the retry of the lost run, the run on MNIST, the last two on digits.
    assert sorted(script.stacks) == [1, 1, 2, 4]
    assert script.stacks[:2] == [4, 1]
    assert {end.state for end in scheduled.ends.values()} == {State.FINISHED}
    assert len(scheduled.ends) == 7
