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
from aldvae.sweeps.executors.base import Ended, EpochDone, Event, Note, State
from aldvae.sweeps.jobs import Job, sweep
from aldvae.sweeps.scheduler import RETRIES, Scheduler


class Script:
    """An executor that does what it is told for each attempt at each run, one event at a time."""

    def __init__(self, slots: int, attempts: dict[int, list[list[Event]]], jobs: list[Job]) -> None:
        self.slots, self.stopped = slots, False
        self._attempts = {jobs[number].config.name: deque(told) for number, told in attempts.items()}
        self._running: dict[str, deque[Event]] = {}
        self.submitted: list[str] = []
        self.most = 0
        self.batches: list[int] = []

    def submit(self, batch: Sequence[Job]) -> None:
        for job in batch:
            self._submit(job.config.name)
        self.batches.append(len(batch))

    def _submit(self, name: str) -> None:
        self.submitted.append(name)
        left = self._attempts.get(name)
        events = left.popleft() if left else [Ended(name, State.FINISHED)]
        self._running[name] = deque(events)
        self.most = max(self.most, len(self._running))

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


class Heard:
    """Hears of a sweep."""

    def __init__(self) -> None:
        self.notes: list[str] = []
        self.begun: list[str] = []

    def note(self, text: str) -> None:
        self.notes.append(text)

    def started(self, job: Job) -> None:
        self.begun.append(job.config.name)

    def epoch_done(self, job: Job, event: EpochDone) -> None:
        assert job.config.name == event.run

    def ended(self, job: Job, event: Ended) -> None:
        assert job.config.name == event.run


JOBS = sweep("seeds", "digits", seeds=range(6))
NAMES = [job.config.name for job in JOBS]


def test_every_job_is_done_once_and_no_more_than_the_slots_at_a_time(tmp_path: Path) -> None:
    script = Script(2, {n: [[EpochDone(NAMES[n], 1, 9, 0.1), Ended(NAMES[n], State.FINISHED)]] for n in range(6)}, JOBS)
    driver = Scheduler(script, tmp_path, Heard())
    driver.run(JOBS)
    assert script.submitted == NAMES
    assert script.most == 2
    assert {end.state for end in driver.ends.values()} == {State.FINISHED}


def test_a_failure_is_written_down_and_the_others_go_on(tmp_path: Path) -> None:
    failure = Ended(NAMES[1], State.FAILED, "boom", "Traceback\nboom\n")
    driver = Scheduler(Script(1, {1: [[failure]]}, JOBS), tmp_path, Heard())
    driver.run(JOBS)
    assert [driver.ends[name].state is State.FAILED for name in NAMES] == [False, True, False, False, False, False]
    assert (tmp_path / NAMES[1] / FAILURE).read_text() == "boom\n\nTraceback\nboom\n"


@pytest.mark.parametrize("deaths", range(RETRIES + 3))
def test_a_dead_worker_is_replaced_twice_at_most(tmp_path: Path, deaths: int) -> None:
    lost: list[list[Event]] = [[Ended(NAMES[0], State.LOST, "killed")] for _ in range(deaths)]
    script, heard = Script(1, {0: lost}, JOBS), Heard()
    driver = Scheduler(script, tmp_path, heard)
    driver.run(JOBS)
    survives = deaths <= RETRIES
    assert driver.ends[NAMES[0]].state is (State.FINISHED if survives else State.FAILED)
    assert script.submitted.count(NAMES[0]) == min(deaths, RETRIES) + 1
    assert (tmp_path / NAMES[0] / FAILURE).exists() != survives
    assert sum("trying again" in note for note in heard.notes) == min(deaths, RETRIES)
    assert {driver.ends[name].state for name in NAMES[1:]} == {State.FINISHED}


def test_a_run_of_another_process_is_looked_at_again_after_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(scheduler, "_LOOK_AGAIN", 0.02)
    busy: list[Event] = [Ended(NAMES[0], State.BUSY, f"{NAMES[0]} is being worked on")]
    script = Script(1, {0: [busy, busy, [Ended(NAMES[0], State.SKIPPED)]]}, JOBS)
    heard = Heard()
    driver = Scheduler(script, tmp_path, heard)
    driver.run(JOBS)
    assert driver.ends[NAMES[0]].state is State.SKIPPED
    assert script.submitted.count(NAMES[0]) == 3
    assert sum("being worked on" in note for note in heard.notes) == 1


def test_what_holds_for_all_runs_is_said_once(tmp_path: Path) -> None:
    said: dict[int, list[list[Event]]] = {
        n: [[Note(NAMES[n], "the same", general=True), Note(NAMES[n], "its own"), Ended(NAMES[n], State.FINISHED)]]
        for n in range(6)
    }
    heard = Heard()
    Scheduler(Script(2, said, JOBS), tmp_path, heard).run(JOBS)
    assert sum("the same" in note for note in heard.notes) == 1
    assert sum("its own" in note for note in heard.notes) == 6


def test_an_interrupt_lets_the_runs_end_and_begins_no_other(tmp_path: Path) -> None:
    class Interrupting(Heard):
        def epoch_done(self, job: Job, event: EpochDone) -> None:
            super().epoch_done(job, event)
            os.kill(os.getpid(), signal.SIGTERM)

    script = Script(1, {0: [[EpochDone(NAMES[0], 1, 9, 0.1)]]}, JOBS)
    driver = Scheduler(script, tmp_path, Interrupting())
    before = signal.getsignal(signal.SIGTERM)
    driver.run(JOBS)
    assert driver.interrupted
    assert script.submitted == NAMES[:1]
    assert driver.ends[NAMES[0]].state is State.STOPPED
    assert signal.getsignal(signal.SIGTERM) is before


def test_a_second_interrupt_ends_at_once(tmp_path: Path) -> None:
    class Twice(Heard):
        def epoch_done(self, job: Job, event: EpochDone) -> None:
            super().epoch_done(job, event)
            os.kill(os.getpid(), signal.SIGINT)

    told: list[Event] = [EpochDone(NAMES[0], epoch, 9, 0.1) for epoch in (1, 2)]
    with pytest.raises(KeyboardInterrupt):
        Scheduler(Script(1, {0: [told]}, JOBS), tmp_path, Twice()).run(JOBS)


def test_an_epoch_that_takes_too_long_is_not_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scheduler, "GRACE", 0.1)

    class Stuck(Script):
        def stop(self) -> None:
            """Go on all the same."""

    class Interrupting(Heard):
        def epoch_done(self, job: Job, event: EpochDone) -> None:
            super().epoch_done(job, event)
            os.kill(os.getpid(), signal.SIGINT)

    heard = Interrupting()
    begin = time.monotonic()
    Scheduler(Stuck(1, {0: [[EpochDone(NAMES[0], 1, 9, 0.1)]]}, JOBS), tmp_path, heard).run(JOBS)
    assert time.monotonic() - begin < 5
    assert any("too long to wait for" in note for note in heard.notes)


def test_a_population_is_handed_out_together_and_what_dies_goes_on_alone(tmp_path: Path) -> None:
    lost: list[Event] = [Ended(NAMES[0], State.LOST, "killed")]
    script = Script(1, {0: [lost]}, JOBS)
    driver = Scheduler(script, tmp_path, Heard(), population=4)
    other = sweep("seeds", "mnist", seeds=[0])
    driver.run([*JOBS[:2], *other, *JOBS[2:]])
    # Four of one kind, the lost one again, the run on other data, the last two.
    assert sorted(script.batches) == [1, 1, 2, 4]
    assert script.batches[:2] == [4, 1]
    assert {end.state for end in driver.ends.values()} == {State.FINISHED}
    assert len(driver.ends) == 7
