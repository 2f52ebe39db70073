"""CPU threads before torch is loaded: how those that wait behave, and how many cores there are."""

from __future__ import annotations

import os


def let_waiting_threads_sleep() -> None:
    """Let OpenMP's threads sleep while they wait, unless the user has set OMP_WAIT_POLICY.

    By default they wait in a busy loop. On a core that another program wants, this loop takes the time that the thread
    needs for which they wait. It has an effect only before torch is loaded.
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")


def usable_cores() -> int:
    """Return the number of processor cores that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
