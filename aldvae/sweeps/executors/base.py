"""What every executor does: it executes stacks of jobs and reports events. It neither retries nor decides."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from aldvae.sweeps.jobs import Job


@dataclass(frozen=True)
class Message:
    """A line for the user about the run called `run`; a `general` one applies to all runs with the same settings."""

    run: str
    text: str
    general: bool = False


@dataclass(frozen=True)
class EpochDone:
    """A run has finished `epoch` with `latent_dim` neurons, in `seconds`."""

    run: str
    epoch: int
    latent_dim: int
    seconds: float


class State(Enum):
    """How a job ended."""

    FINISHED = "finished"
    SKIPPED = "finished before"
    FAILED = "failed"
    BUSY = "being worked on by another process"
    STOPPED = "interrupted"
    LOST = "its worker died"


@dataclass(frozen=True)
class Ended:
    """The last event of a job; `reason` is one line, `traceback` that of a failure."""

    run: str
    state: State
    reason: str = ""
    traceback: str = ""


Event = Message | EpochDone | Ended


class Executor(Protocol):
    """Executes up to `slots` stacks at a time; the jobs of a stack are trained together."""

    slots: int

    def submit(self, stack: Sequence[Job]) -> None:
        """Start a stack; only while fewer than `slots` are running."""

    def events(self, timeout: float) -> list[Event]:
        """Return new events, after waiting up to `timeout` seconds for the first."""

    def stop(self) -> None:
        """Let every run end after its current epoch."""

    def close(self) -> None:
        """End all runs now; each can resume from its last checkpoint."""
