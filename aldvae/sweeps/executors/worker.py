"""What a worker does: it executes a stack of jobs, reports their progress, and turns errors into events."""

from __future__ import annotations

import os
import re
import sys
import tempfile
import time
import traceback
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from aldvae.sweeps.executors.base import Ended, EpochDone, Event, Message, State
from aldvae.sweeps.jobs import Job
from aldvae.training.callbacks import Callback, Row
from aldvae.utils.errors import AldvaeError, BusyError

if TYPE_CHECKING:
    from aldvae.compression.steps import Step
    from aldvae.config.execution import Execution
    from aldvae.config.run_config import RunConfig
    from aldvae.training.inputs import InputCache

Send = Callable[[Event], None]


class StoppedError(Exception):
    """The run was asked to stop; its checkpoint is written."""


class EventCallback(Callback):
    """Sends the progress of a run as events; ends the run after an epoch once `stopping` returns True."""

    def __init__(self, run: str, send: Send, stopping: Callable[[], bool]) -> None:
        """`run` is the name of the run."""
        self.run, self.send, self.stopping = run, send, stopping
        self._start, self._epochs = time.monotonic(), 0

    def on_message(self, text: str, general: bool = False) -> None:
        """Send the message."""
        self.send(Message(self.run, text, general))

    def on_start(self, config: RunConfig, first_epoch: int) -> None:
        """Send a message if the run is resumed, and start the clock of the first epoch."""
        if first_epoch > 1:
            self.on_message(f"resuming at epoch {first_epoch} of {config.training.epochs}")
        self._start, self._epochs = time.monotonic(), config.training.epochs

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:  # noqa: ARG002
        """Send the epoch; raises `StoppedError` if the run was asked to stop."""
        self._send_epoch(epoch, int(row["latent_dim"]))

    def on_curve_epoch(self, epoch: int, epochs: int, latent_dim: int) -> None:  # noqa: ARG002
        """Send the epoch, counted on from those of the run; raises as `on_epoch_end` does."""
        self._send_epoch(self._epochs + epoch, latent_dim)

    def _send_epoch(self, epoch: int, latent_dim: int) -> None:
        now = time.monotonic()
        self.send(EpochDone(self.run, epoch, latent_dim, now - self._start))
        self._start = now
        if self.stopping():
            raise StoppedError


def execute(
    stack: Sequence[Job], execution: Execution, send: Send, stopping: Callable[[], bool], cache: InputCache
) -> None:
    """Execute the jobs of `stack` together; send their progress, and how each ended.

    What a single run raises is sent as its end. An error in the training of several, such as a lack of memory, is
    raised: when the worker has died of it, each of them is tried again alone.
    """
    from aldvae.training.loop import Member, run_stack

    members = [
        Member(job.config, replace(execution, own_data=job.own_data), EventCallback(job.config.name, send, stopping))
        for job in stack
    ]
    try:
        for config, outcome in run_stack(members, cache):
            if isinstance(outcome, Exception):
                send(ended_by(config.name, outcome))
            else:
                send(Ended(config.name, State.SKIPPED if outcome.skipped else State.FINISHED))
    except Exception as error:
        if len(stack) > 1:
            raise
        send(ended_by(stack[0].config.name, error))


def ended_by(name: str, error: Exception) -> Ended:
    """Return the end of the run called `name`, which raised `error`."""
    if isinstance(error, StoppedError):
        return Ended(name, State.STOPPED)
    if isinstance(error, BusyError):
        return Ended(name, State.BUSY, str(error))
    text = "".join(traceback.format_exception(error))
    return Ended(name, State.FAILED, hide_paths(one_line(error)), hide_paths(text))


def one_line(error: Exception) -> str:
    """Return the message of `error` as one line."""
    if isinstance(error, AldvaeError):
        return str(error)
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename or 'a file'}: {error.strerror}"
    return " ".join(f"{type(error).__name__}: {error}".split())


def hide_paths(text: str) -> str:
    """Return `text` without the directories of this machine, since results are shared."""
    package = Path(__file__).parents[3]
    libraries = [str(Path(module).parent) for module in (os.__file__, traceback.__file__)]
    text = re.sub(r"[^\s\"']*[\\/]site-packages[\\/]", "", text)
    directories = [str(package), *libraries, str(Path.cwd()), sys.prefix, tempfile.gettempdir(), str(Path.home())]
    # The longest first: one may lie in another.
    for directory in sorted(set(directories), key=len, reverse=True):
        if len(directory) > 1:
            text = text.replace(directory + os.sep, "").replace(directory, ".")
    return text
