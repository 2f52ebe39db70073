"""Describing and executing a sweep, from its list of jobs to their results."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass, replace

from aldvae.config.execution import Execution, Schedule, threads_per_job
from aldvae.runs.results import Result, read_result, read_results
from aldvae.sweeps.eta import EpochTimes, estimate_wall_time
from aldvae.sweeps.executors.base import Executor, State
from aldvae.sweeps.jobs import Job, JobList
from aldvae.sweeps.progress import SweepDisplay
from aldvae.sweeps.scheduler import Scheduler
from aldvae.sweeps.stacking import stack_size
from aldvae.training.progress import format_duration
from aldvae.utils.devices import cpu_settings, pick_device
from aldvae.utils.errors import AldvaeError, ConfigError


class InterruptedSweepError(AldvaeError):
    """A sweep was interrupted; the same command resumes it."""

    exit_code = 130


def describe_sweep(planned: JobList, execution: Execution, schedule: Schedule, times: EpochTimes | None = None) -> str:
    """Return a list of the runs with their states, and an estimate of the time left, from `times` where they are given.

    Raises `ConfigError` for a schedule that needs more processor cores than this machine has.
    """
    if schedule.executor == "local":
        threads_per_job(schedule.jobs or 1, execution.threads)
    states = [(job, _result(job, execution)) for job in planned.jobs]
    unfinished = [(job, result) for job, result in states if not _finished(result)]
    lines = [f"{job.config.name:60} {_state(job, result)}" for job, result in states]
    lines.append(f"{len(states)} runs, {len(states) - len(unfinished)} finished, {len(unfinished)} left")
    if planned.pending:
        lines.append(f"and {planned.pending} more whose fixed size other runs have yet to find")
    times = times or measure_times(planned.jobs, execution, schedule)
    return "\n".join([*lines, *_describe_time(unfinished, times, schedule.jobs or 1)])


def _describe_time(unfinished: Sequence[tuple[Job, Result | None]], times: EpochTimes, slots: int) -> list[str]:
    """Return lines about the time that the `unfinished` runs take."""
    configs = [job.config for job, _ in unfinished]
    seconds = [times.remaining(job.config, result.epochs if result else 0) for job, result in unfinished]
    estimates, lines = [value for value in seconds if value is not None], []
    if estimates:
        duration = format_duration(estimate_wall_time(estimates, slots))
        lines.append(f"about {duration} for {len(estimates)} of them, {slots} at a time")
    rehearsed = sum(value is not None and not times.is_measured(c) for c, value in zip(configs, seconds, strict=True))
    if rehearsed:
        lines.append(f"for {rehearsed} told by a few training steps, as --results-dir holds no similar runs")
    if missing := len(seconds) - len(estimates):
        lines.append(f"no estimate for {missing}: --results-dir holds no similar runs")
    return lines


def measure_times(jobs: Sequence[Job], execution: Execution, schedule: Schedule) -> EpochTimes:
    """Return how long the epochs of `jobs` take: those of similar runs or, if this machine trains, of a few steps."""
    try:
        times = EpochTimes(read_results(execution.results_dir))
    except ConfigError:
        times = EpochTimes()
    # A cluster's workers have other processors and devices than this machine.
    if schedule.executor == "local":
        device = pick_device(execution.device)
        with cpu_settings(execution.threads or threads_per_job(schedule.jobs or 1, None)):
            for job in _jobs_left(jobs, execution, set()):
                times.rehearse(job.config, device)
    return times


@dataclass(frozen=True)
class SweepOutcome:
    """The `results` of the `n_jobs` jobs of a sweep, how many of them `failed`, and whether it was `interrupted`."""

    results: list[Result]
    n_jobs: int
    failed: int = 0
    interrupted: bool = False

    def raise_for_failures(self) -> None:
        """Raise `InterruptedSweepError` after an interrupt, `AldvaeError` if runs failed."""
        if self.interrupted:
            raise InterruptedSweepError("interrupted; the same command resumes the runs from their last epochs")
        if self.failed:
            raise AldvaeError(f"{self.failed} of {self.n_jobs} runs failed; the same command tries them again")


def run_sweep(list_jobs: Callable[[], JobList], execution: Execution, schedule: Schedule) -> SweepOutcome:
    """Execute the jobs; call `list_jobs` again until it returns no new ones."""
    planned = list_jobs()
    times = measure_times(planned.jobs, execution, schedule)
    print(describe_sweep(planned, execution, schedule, times), file=sys.stderr)
    tried: set[str] = set()
    failed, interrupted = 0, False
    if not _jobs_left(planned.jobs, execution, tried):
        return SweepOutcome(_results(planned.jobs, execution), len(planned.jobs))
    with closing(_executor(schedule, execution)) as executor:
        while not interrupted and (left := _jobs_left(planned.jobs, execution, tried)):
            scheduler = _run_jobs(left, len(planned.jobs) - len(left), executor, execution, schedule, times)
            tried |= {job.config.name for job in left}
            failed += sum(end.state is State.FAILED for end in scheduler.ends.values())
            interrupted, planned = scheduler.interrupted, list_jobs()
    return SweepOutcome(_results(planned.jobs, execution), len(planned.jobs), failed, interrupted)


def _run_jobs(
    jobs: Sequence[Job], done: int, executor: Executor, execution: Execution, schedule: Schedule, times: EpochTimes
) -> Scheduler:
    """Execute `jobs`, after `done` others; return their scheduler, which holds how they ended."""
    with SweepDisplay(jobs, done, times, executor.slots) as display:
        size = stack_size(schedule, execution, len(jobs), executor.slots)
        if size > 1:
            display.on_message(f"up to {size} runs are trained as one stack; --population off trains each alone")
        scheduler = Scheduler(executor, execution.results_dir, display, size)
        scheduler.run(jobs)
    return scheduler


def _executor(schedule: Schedule, execution: Execution) -> Executor:
    if schedule.executor == "ray":
        from aldvae.sweeps.executors.ray_cluster import RayExecutor

        return RayExecutor(schedule, execution)
    from aldvae.sweeps.executors.local import LocalExecutor

    slots = schedule.jobs or 1
    return LocalExecutor(slots, replace(execution, max_threads=threads_per_job(slots, execution.threads)))


def _results(jobs: Sequence[Job], execution: Execution) -> list[Result]:
    return [result for job in jobs if (result := _result(job, execution)) is not None]


def _jobs_left(jobs: Sequence[Job], execution: Execution, tried: set[str]) -> list[Job]:
    return [job for job in jobs if job.config.name not in tried and not _finished(_result(job, execution))]


def _result(job: Job, execution: Execution) -> Result | None:
    return read_result(execution.results_dir / job.config.name)


def _finished(result: Result | None) -> bool:
    return result is not None and result.summary is not None


def _state(job: Job, result: Result | None) -> str:
    if result is None:
        return "to do"
    if _finished(result) or not result.epochs:
        return result.state
    return f"{result.state}, epoch {result.epochs} of {job.config.training.epochs}"
