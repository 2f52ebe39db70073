"""Where the runs of a sweep are executed: processes of this machine, or a Ray cluster.

An executor takes jobs and tells what becomes of them as events; it retries nothing and decides nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol

from aldvae.sweeps.jobs import Job


@dataclass(frozen=True)
class Note:
    """Something the user should know of a run; or, if `general`, of all runs with the same settings."""

    run: str
    text: str
    general: bool = False


@dataclass(frozen=True)
class EpochDone:
    """A run has finished `epoch` at size `latent_dim`; `seconds` since it began or finished the one before."""

    run: str
    epoch: int
    latent_dim: int
    seconds: float


class State(Enum):
    """What became of a job."""

    FINISHED = "finished"
    SKIPPED = "finished before"
    FAILED = "failed"
    BUSY = "being worked on by another process"
    STOPPED = "interrupted"
    LOST = "its worker died"


@dataclass(frozen=True)
class Ended:
    """The last event of a job; `reason` is one line, `traceback` for the record of a failure."""

    run: str
    state: State
    reason: str = ""
    traceback: str = ""


Event = Note | EpochDone | Ended


class Executor(Protocol):
    """Executes up to `slots` batches of jobs at a time; the jobs of a batch are trained as one population."""

    slots: int

    def submit(self, batch: Sequence[Job]) -> None:
        """Begin a batch; only while fewer than `slots` are going on."""

    def events(self, timeout: float) -> list[Event]:
        """Return what happened, waiting up to `timeout` seconds for something to happen."""

    def stop(self) -> None:
        """Let every run end after the epoch it is in."""

    def close(self) -> None:
        """End everything at once; what is not in a checkpoint is lost."""
