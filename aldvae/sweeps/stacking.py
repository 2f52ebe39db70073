"""How many runs of a sweep are trained together as one population."""

from __future__ import annotations

import ctypes
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor
from typing import Any

from aldvae.compression.rules.registry import rule_class
from aldvae.config.execution import Execution, Schedule
from aldvae.config.run_config import RunConfig

# A guess, not measured: more would wait longer for one another's metrics, which are computed in turn.
MOST = 16
# Above what parameters, moments and activations of a batch come to for the paper's networks: about 0.1 GiB.
RUN_BYTES = 2**30


def stack_size(schedule: Schedule, execution: Execution, runs: int, slots: int) -> int:
    """Return how many of `runs` each of `slots` workers trains together at most.

    With ``auto`` that is 1, but on an NVIDIA GPU what `room` says, as long as no worker is left without runs. Raises
    `ConfigError` as `room` does.
    """
    if schedule.population != "auto":
        return 1 if schedule.population == "off" else int(schedule.population)
    if runs < 2 or schedule.executor != "local" or execution.device in ("cpu", "mps") or not _has_driver():
        return 1
    return min(_ask(execution.device, slots), -(-runs // slots))


def _has_driver() -> bool:
    """Tell in no time where torch need not be asked."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _ask(device: str, slots: int) -> int:
    """Return `room` of another process: this one would keep torch and its share of the GPU to the end."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(room, device, slots).result()


def room(device: str, slots: int) -> int:
    """Return how many runs each of `slots` workers on `device` can stack; 1 where that is no CUDA GPU.

    A run for each GiB of the GPU's memory, which the workers on it share, and `MOST` at most. Raises `ConfigError` as
    `pick_device` does.
    """
    import torch

    from aldvae.utils.devices import pick_device

    chosen = pick_device(device)
    if chosen.type != "cuda":
        return 1
    workers = -(-slots // torch.cuda.device_count()) if device == "auto" else slots
    memory = torch.cuda.get_device_properties(chosen).total_memory // workers
    return max(1, min(MOST, memory // RUN_BYTES))


# The video network normalises over a batch and keeps running means, which cannot be stacked.
_STACKABLE = ("mlp", "conv")
_ONE_POPULATION = (
    *("dataset", "source", "limit", "validation", "resize", "network", "hidden_dim", "channels", "likelihood"),
    *("beta", "batch_size", "lr", "precision"),
)


def stack_key(config: RunConfig) -> tuple[Any, ...] | None:
    """Return what runs share that can be trained as one population; None for a run that cannot.

    Members of a population are padded to one size and move together: neurons that are padding would take their share of
    a softmax over the dimensions, frozen layers would be moved, and a rule that undoes a removal takes the
    optimiser's steps back for one member alone.
    """
    undoes = rule_class(config.rule).can_undo
    lone = config.posterior == "softmax" or config.shrunk_layers == "frozen" or undoes
    if lone or config.network not in _STACKABLE:
        return None
    return tuple(getattr(config, name) for name in _ONE_POPULATION)
