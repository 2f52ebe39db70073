"""Which device to compute on; one that was asked for and is absent is an error, never a reason to take another."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from aldvae.utils.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Return the device called `name`; ``auto`` is the first CUDA GPU, else the CPU.

    Raises `ConfigError` for an unknown name and for a GPU that is not there.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device", "mps was asked for, but there is none here; use --device cpu or auto")
    if re.fullmatch(r"cuda(:\d+)?", name):
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            available = f"{torch.cuda.device_count()} CUDA GPUs are here"
            raise ConfigError("device", f"{name} was asked for, but {available}; use --device cpu or auto")
    elif name not in ("cpu", "mps"):
        raise ConfigError("device", f"{name} is not known (there are: auto, cpu, cuda, cuda:N, mps)")
    return torch.device(name)


def float64_device(device: torch.device) -> torch.device:
    """Return where numbers on `device` become float64: there, but for Apple's GPUs, which have none, on the CPU."""
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(x: Tensor) -> Tensor:
    """Return `x` as float64, where `float64_device` says."""
    return x.to(float64_device(x.device)).double()


def device_for_worker(name: str, worker: int) -> str:
    """Return the device for the `worker`-th process of this machine: with ``auto``, the GPUs in turn."""
    if name == "auto" and (gpus := torch.cuda.device_count()):
        return f"cuda:{worker % gpus}"
    return name


# How many contexts are open: torch does not tell whether it flushes denormal numbers now.
_open_contexts = 0


@contextmanager
def cpu_settings(threads: int | None) -> Iterator[int]:
    """Compute with `threads` threads (None: as torch would) inside the context; yields their number.

    Numbers below 1e-38 count as zero inside: the moments Adam keeps of neurons without gradient decay into that range,
    where the processor computes so slowly that an epoch of MNIST took twice as long from the fourth epoch on.
    """
    global _open_contexts
    before = torch.get_num_threads()
    n_threads = threads if threads is not None else before
    with threadpool_limits(n_threads):
        torch.set_num_threads(n_threads)
        torch.set_flush_denormal(True)
        _open_contexts += 1
        try:
            yield n_threads
        finally:
            _open_contexts -= 1
            torch.set_flush_denormal(_open_contexts > 0)
            torch.set_num_threads(before)


@contextmanager
def limit_new_threadpools() -> Iterator[None]:
    """Hold libraries that were loaded inside `cpu_settings` to its number of threads as well."""
    with threadpool_limits(torch.get_num_threads()):
        yield
