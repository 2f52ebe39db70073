"""One job in a worker: run it, tell of it, and turn whatever it raises into an event."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from aldvae.sweeps.executors.base import Ended, EpochDone, Event, Note, State
from aldvae.sweeps.jobs import Job
from aldvae.training.callbacks import Observer
from aldvae.utils.errors import AldvaeError, BusyError

if TYPE_CHECKING:
    from aldvae.compression.compressor import Step
    from aldvae.config.execution import Execution
    from aldvae.config.run_config import RunConfig
    from aldvae.training.inputs import Shelf

Tell = Callable[[Event], None]


class StoppedError(Exception):
    """The run was asked to end, and its checkpoint is written."""


class Reporter(Observer):
    """Tells the driver of a run, and ends it after an epoch if `stopping` says so."""

    def __init__(self, run: str, tell: Tell, stopping: Callable[[], bool]) -> None:
        """See the class."""
        self.run, self.tell, self.stopping = run, tell, stopping
        self._since = time.monotonic()

    def note(self, text: str) -> None:
        """Pass it on."""
        self.tell(Note(self.run, text))

    def remark(self, text: str) -> None:
        """Pass it on."""
        self.tell(Note(self.run, text, general=True))

    def started(self, config: RunConfig, first_epoch: int) -> None:
        """Say where a run is resumed, and begin to count the time."""
        if first_epoch > 1:
            self.note(f"resuming at epoch {first_epoch} of {config.epochs}")
        self._since = time.monotonic()

    def epoch_done(self, row: dict[str, Any], step: Step | None) -> None:  # noqa: ARG002
        """Pass it on; raises `StoppedError` if the run was asked to end."""
        now = time.monotonic()
        self.tell(EpochDone(self.run, row["epoch"], row["latent_dim"], now - self._since))
        self._since = now
        if self.stopping():
            raise StoppedError


def perform(job: Job, execution: Execution, tell: Tell, stopping: Callable[[], bool], shelf: Shelf) -> Ended:
    """Do `job`, telling of its epochs; return how it ended. Raises nothing that a run may raise."""
    from aldvae.training.loop import run

    name = job.config.name
    try:
        here = replace(execution, own_data=job.own_data)
        outcome = run(job.config, here, Reporter(name, tell, stopping), shelf=shelf, wait=False)
        return Ended(name, State.SKIPPED if outcome.skipped else State.FINISHED)
    except Exception as error:
        return end(name, error)


def perform_together(
    batch: Sequence[Job], execution: Execution, tell: Tell, stopping: Callable[[], bool], shelf: Shelf
) -> None:
    """Do the jobs of `batch` as one population, telling of each as `perform` does, and how it ended."""
    from aldvae.training.loop import Run, begin
    from aldvae.training.stacked import run_together
    from aldvae.utils.devices import cpu_settings

    with cpu_settings(execution.threads_for(None)) as threads, ExitStack() as locks:
        runs: dict[str, Run] = {}
        for job in batch:
            name, here = job.config.name, replace(execution, own_data=job.own_data)
            try:
                run = begin(job.config, here, Reporter(name, tell, stopping), threads, shelf, locks)
                if run is None:
                    tell(Ended(name, State.SKIPPED))
                else:
                    runs[name] = run
            except Exception as error:
                tell(end(name, error))
        run_together(list(runs.values()), lambda run, error: tell(end(run.config.name, error)))


def end(name: str, error: Exception | None) -> Ended:
    """Return how a run ended, given what it raised."""
    if error is None:
        return Ended(name, State.FINISHED)
    if isinstance(error, StoppedError):
        return Ended(name, State.STOPPED)
    if isinstance(error, BusyError):
        return Ended(name, State.BUSY, str(error))
    told = "".join(traceback.format_exception(error))
    return Ended(name, State.FAILED, hide_paths(one_line(error)), hide_paths(told))


def one_line(error: Exception) -> str:
    """Return what went wrong as one line."""
    if isinstance(error, AldvaeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def hide_paths(text: str) -> str:
    """Return `text` without the paths of this machine: results are shared."""
    package = Path(__file__).parents[3]
    libraries = [str(Path(module).parent) for module in (os.__file__, traceback.__file__)]
    text = re.sub(r"[^\s\"']*[\\/]site-packages[\\/]", "", text)
    known = [str(package), *libraries, str(Path.cwd()), sys.prefix, tempfile.gettempdir(), str(Path.home())]
    for place in sorted(set(known), key=len, reverse=True):
        if len(place) > 1:
            text = text.replace(place + os.sep, "").replace(place, ".")
    return text
