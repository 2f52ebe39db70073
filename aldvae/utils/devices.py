"""The device to compute on and the CPU's threads.

A requested device that is absent is an error; no other device is used instead.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from functools import lru_cache

import numpy as np
import torch
from threadpoolctl import ThreadpoolController, threadpool_limits
from torch import Tensor

from aldvae.utils.errors import ConfigError


def pick_device(name: str) -> torch.device:
    """Return the device called `name`: ``auto``, ``cpu``, ``cuda``, ``cuda:N`` or ``mps``.

    ``auto`` is the first CUDA GPU, else the CPU.
    Raises `ConfigError` for an unknown name and for a GPU that this machine does not have.
    """
    if name == "auto":
        return torch.device("cuda:0" if torch.cuda.is_available() else "cpu")
    if name == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("device", "mps is not available on this machine; use --device cpu or auto")
    if re.fullmatch(r"cuda(:\d+)?", name):
        index = int(name.partition(":")[2] or 0)
        if index >= torch.cuda.device_count():
            problem = f"{name} is not available ({torch.cuda.device_count()} CUDA GPUs found); use --device cpu or auto"
            raise ConfigError("device", problem)
    elif name not in ("cpu", "mps"):
        raise ConfigError("device", f"{name} is not known (choose from: auto, cpu, cuda, cuda:N, mps)")
    return torch.device(name)


def float64_device(device: torch.device) -> torch.device:
    """Return `device` if it supports float64, else the CPU (for Apple's GPUs)."""
    return torch.device("cpu") if device.type == "mps" else device


def to_float64(x: Tensor) -> Tensor:
    """Return `x` as float64 on its `float64_device`."""
    return x.to(float64_device(x.device)).double()


def device_for_worker(name: str, worker: int) -> str:
    """Return the device name for process number `worker` of this machine; ``auto`` assigns the CUDA GPUs in turn."""
    if name == "auto" and (gpus := torch.cuda.device_count()):
        return f"cuda:{worker % gpus}"
    return name


# The number of open contexts, because torch cannot be asked whether it flushes denormal numbers.
_open_contexts = 0


@contextmanager
def cpu_settings(threads: int | None) -> Iterator[int]:
    """Compute with `threads` threads inside the context (None: torch's present number); yields the number of threads.

    Inside, denormal numbers (below 1e-38) are flushed to zero. Adam's moments of neurons without a gradient decay into
    that range, where a processor is so slow that an epoch of MNIST took twice as long from the fourth epoch on.
    """
    global _open_contexts
    before = torch.get_num_threads()
    n_threads = threads if threads is not None else before
    # numpy before 2.4 measures the smallest denormal number once, and warns if it is flushed to zero by then.
    np.finfo(np.float32), np.finfo(np.float64)
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
    """Apply the thread limit of `cpu_settings` to libraries that were loaded after it was entered."""
    with _threadpools(len(sys.modules)).limit(limits=torch.get_num_threads()):
        yield


# Looking for libraries takes milliseconds, several times in an epoch; a library is loaded by the import of a module.
@lru_cache(maxsize=1)
def _threadpools(n_modules: int) -> ThreadpoolController:  # noqa: ARG001
    return ThreadpoolController()
