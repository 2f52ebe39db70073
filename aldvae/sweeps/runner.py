"""A sweep from its list of runs to its table: what is left is listed, done, and told."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from aldvae.config.execution import Execution, Schedule, share_of_cores
from aldvae.runs.results import Result, read_result, read_results
from aldvae.sweeps.eta import Pace, together
from aldvae.sweeps.executors.base import Executor, State
from aldvae.sweeps.jobs import Job, Runs
from aldvae.sweeps.progress import SweepDisplay
from aldvae.sweeps.scheduler import Scheduler
from aldvae.sweeps.stacking import stack_size
from aldvae.training.progress import duration
from aldvae.utils.errors import AldvaeError, ConfigError


class InterruptedSweepError(AldvaeError):
    """A sweep was interrupted; the same command goes on."""

    exit_code = 130


def describe_sweep(runs: Runs, execution: Execution, schedule: Schedule) -> str:
    """Return a list of the runs, which of them are done, and how long the others will take.

    Raises `ConfigError` for a schedule that this machine cannot keep.
    """
    if schedule.executor == "local":
        share_of_cores(schedule.jobs or 1, execution.threads)
    told = [(job, _result(job, execution)) for job in runs.jobs]
    left = [(job, result) for job, result in told if not _finished(result)]
    pace, slots = _pace(execution), schedule.jobs or 1
    seconds = [pace.left(job.config, result.epochs if result else 0) for job, result in left]
    known = [value for value in seconds if value is not None]
    lines = [f"{job.config.name:60} {_state(job, result)}" for job, result in told]
    lines.append(f"{len(told)} runs, {len(told) - len(left)} finished, {len(left)} left")
    if runs.later:
        lines.append(f"and {runs.later} of a fixed size that others have yet to find")
    if known:
        lines.append(f"about {duration(together(known, slots))} for {len(known)} of them, {slots} at a time")
    if len(known) < len(left):
        lines.append(f"no estimate for {len(left) - len(known)}: nothing like them was measured in --results-dir yet")
    return "\n".join(lines)


@dataclass(frozen=True)
class SweepOutcome:
    """What became of a sweep: the `results` there are of its jobs, how many of these `failed`, and any interrupt."""

    results: list[Result]
    jobs: int
    failed: int = 0
    interrupted: bool = False

    def raise_for_failures(self) -> None:
        """Raise `AldvaeError` where runs failed, and after an interrupt."""
        if self.interrupted:
            raise InterruptedSweepError("interrupted; the same command goes on where the runs were")
        if self.failed:
            raise AldvaeError(f"{self.failed} of {self.jobs} runs failed; the same command tries them again")


def run_sweep(runs: Callable[[], Runs], execution: Execution, schedule: Schedule) -> SweepOutcome:
    """Execute the jobs; call `runs` again until it returns no new ones."""
    planned = runs()
    print(describe_sweep(planned, execution, schedule), file=sys.stderr)
    tried: set[str] = set()
    failed, interrupted = 0, False
    if not _left(planned.jobs, execution, tried):
        return SweepOutcome(_results(planned.jobs, execution), len(planned.jobs))
    with closing(_executor(schedule, execution)) as executor:
        while not interrupted and (left := _left(planned.jobs, execution, tried)):
            done, pace = len(planned.jobs) - len(left), _pace(execution)
            with SweepDisplay(left, done, pace, executor.slots) as display:
                population = stack_size(schedule, execution, len(left), executor.slots)
                if population > 1:
                    display.note(f"up to {population} runs are trained as one stack; --population off: each alone")
                scheduler = Scheduler(executor, execution.results_dir, display, population)
                scheduler.run(left)
            tried |= {job.config.name for job in left}
            failed += sum(end.state is State.FAILED for end in scheduler.ends.values())
            interrupted, planned = scheduler.interrupted, runs()
    return SweepOutcome(_results(planned.jobs, execution), len(planned.jobs), failed, interrupted)


def _executor(schedule: Schedule, execution: Execution) -> Executor:
    if schedule.executor == "ray":
        from aldvae.sweeps.executors.ray_cluster import RayExecutor

        return RayExecutor(schedule, execution)
    from aldvae.sweeps.executors.local import LocalExecutor

    slots = schedule.jobs or 1
    return LocalExecutor(slots, replace(execution, share=share_of_cores(slots, execution.threads)))


def _results(jobs: Sequence[Job], execution: Execution) -> list[Result]:
    return [result for job in jobs if (result := _result(job, execution)) is not None]


def _left(planned: Sequence[Job], execution: Execution, tried: set[str]) -> list[Job]:
    return [job for job in planned if job.config.name not in tried and not _finished(_result(job, execution))]


def _result(job: Job, execution: Execution) -> Result | None:
    return read_result(execution.results_dir / job.config.name)


def _finished(result: Result | None) -> bool:
    return result is not None and result.summary is not None


def _state(job: Job, result: Result | None) -> str:
    if result is None:
        return "to do"
    if _finished(result) or not result.epochs:
        return result.state
    return f"{result.state}, epoch {result.epochs} of {job.config.epochs}"


def _pace(execution: Execution) -> Pace:
    try:
        return Pace(read_results(execution.results_dir))
    except ConfigError:
        return Pace()
