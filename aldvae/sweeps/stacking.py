"""Which runs of a sweep can be trained as one stack, and how many."""

from __future__ import annotations

import ctypes
import multiprocessing
import sys
from concurrent.futures import ProcessPoolExecutor

from aldvae.config.execution import Execution, Schedule
from aldvae.config.run_config import RunConfig
from aldvae.config.sections import AUTO

# A guess, not measured: the metrics of a stack are computed one run after another, and all runs wait for them.
MAX_RUNS = 16
# Parameters, moments and activations of a batch take about 0.1 GiB in the paper's networks.
RUN_BYTES = 2**30


def stack_size(schedule: Schedule, execution: Execution, runs: int, slots: int) -> int:
    """Return how many of `runs` each of `slots` workers trains as one stack at most.

    With ``--population auto`` that is 1 on a CPU; on an NVIDIA GPU it is `runs_per_gpu`, but few enough that every
    worker has runs. Raises `ConfigError` as `runs_per_gpu` does.
    """
    if schedule.population != "auto":
        return 1 if schedule.population == "off" else int(schedule.population)
    if runs < 2 or schedule.executor != "local" or execution.device in ("cpu", "mps") or not _has_driver():
        return 1
    return min(_ask_process(execution.device, slots), -(-runs // slots))


def _has_driver() -> bool:
    """Return whether an NVIDIA driver is installed, without importing torch."""
    try:
        ctypes.CDLL("nvcuda.dll" if sys.platform == "win32" else "libcuda.so.1")
    except OSError:
        return False
    return True


def _ask_process(device: str, slots: int) -> int:
    """Return `runs_per_gpu` from another process: in this one, torch and its GPU memory would stay until the end."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(runs_per_gpu, device, slots).result()


def runs_per_gpu(device: str, slots: int) -> int:
    """Return how many runs each of `slots` workers on `device` can stack; 1 if the device is not a CUDA GPU.

    That is one run per GiB of the GPU's memory, divided among the workers on that GPU, and `MAX_RUNS` at most. Raises
    `ConfigError` as `pick_device` does.
    """
    import torch

    from aldvae.utils.devices import pick_device

    gpu = pick_device(device)
    if gpu.type != "cuda":
        return 1
    workers = -(-slots // torch.cuda.device_count()) if device == "auto" else slots
    memory = torch.cuda.get_device_properties(gpu).total_memory // workers
    return max(1, min(MAX_RUNS, memory // RUN_BYTES))


# The video network uses batch normalisation, whose running means cannot be stacked.
_STACKABLE = ("mlp", "conv")
_SHARED_SETTINGS = (
    *("dataset", "source", "limit", "validation", "resize", "network", "hidden_dim", "channels", "likelihood"),
    *("standardise", "beta", "batch_size", "warmup", "lr", "precision"),
)


def stack_key(config: RunConfig) -> tuple[object, ...] | None:
    """Return what the runs of a stack have in common; None for a run that can only be trained alone.

    The models of a stack are padded to one latent size and take their optimiser steps together. Padding would take part
    in a softmax over the dimensions, frozen layers would be trained, and a rule that undoes a removal takes back
    optimiser steps of one run alone. An optimal scale is an average of each run's own errors, and buffers are shared.
    While a run draws its curve, all others of a stack would wait. Runs that choose their precision may choose two.
    """
    compression = config.compression
    model = config.model
    alone = model.posterior == "softmax" or model.scale == "optimal" or model.network not in _STACKABLE
    if compression is not None:
        rule = compression.rule_class
        alone = alone or compression.shrunk_layers == "frozen" or rule.can_undo or rule.consolidates
        alone = alone or compression.curve
    alone = alone or config.training.precision == AUTO
    if alone:
        return None
    # During a warm-up the weight of the KL divergence depends on the number of epochs.
    epochs = config.training.epochs if config.training.warmup else None
    return (epochs, *(config.settings[name] for name in _SHARED_SETTINGS))
