"""How and where runs are executed; nothing here changes what a run is."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import platformdirs

from aldvae.config.options import setting
from aldvae.utils.errors import ConfigError, unknown_name
from aldvae.utils.threads import usable_cores


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How and where a run is executed.

    `own_data` is the path of the user's own data, named with ``--dataset``, and `plan` the plan file a run is part of.
    `max_threads` limits the CPU threads of a run that shares the machine with others. With `answer_only` an adaptive
    run is left unfinished as soon as its rule has an answer; without it, the same run goes on from there.
    """

    panel: ClassVar[str] = "Execution"

    own_data: Path | None = None
    plan: str | None = None
    max_threads: int | None = None
    answer_only: bool = False
    data_dir: Path | None = setting(
        "Folder of the built-in datasets, found or downloaded; default: ALDVAE_DATA_DIR, else the cache.", None
    )
    results_dir: Path = setting("Where run directories are made.", Path("runs"))
    cache_dir: Path | None = setting("Where decoded data and features are kept (or ALDVAE_CACHE_DIR).", None)
    inception_weights: Path | None = setting("A file of pytorch-fid's Inception weights.", None)
    tensorboard: bool = setting("Also write TensorBoard files into the run's directory.", False)
    wandb: bool = setting("Also log the run to Weights & Biases, as its environment variables say.", False)
    mlflow: bool = setting("Also log the run to MLflow, as its environment variables say.", False)
    device: str = setting("auto, cpu, cuda, cuda:N or mps.", "auto")
    threads: int | None = setting(
        "CPU threads; default: as many as the work in a step keeps busy, 1 for small networks.", None
    )

    def __post_init__(self) -> None:
        """Check the number of threads."""
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ConfigError("threads", f"must be 1 to 1024, not {self.threads}")

    def threads_for(self, default: int | None) -> int | None:
        """Return a run's CPU threads: `threads` if set, else `default`, at most `max_threads`; None: torch decides."""
        if self.threads is not None or self.max_threads is None:
            return self.threads or default
        return min(self.max_threads, default or self.max_threads)

    @property
    def cache_directory(self) -> Path:
        """`cache_dir`, else ALDVAE_CACHE_DIR, else the system's cache folder for this user."""
        variable = os.environ.get("ALDVAE_CACHE_DIR")
        return self.cache_dir or Path(variable or platformdirs.user_cache_dir("aldvae"))

    @property
    def data_directory(self) -> Path | None:
        """`data_dir`, else ALDVAE_DATA_DIR, else None."""
        variable = os.environ.get("ALDVAE_DATA_DIR")
        return self.data_dir or (Path(variable) if variable else None)


EXECUTORS = ("local", "ray")


@dataclass(frozen=True, kw_only=True)
class Schedule:
    """How the runs of a sweep share a machine or a cluster."""

    panel: ClassVar[str] = "Sweep"

    jobs: int | None = setting("Runs at a time; default: 1, on Ray as many as fit.", None)
    executor: str = setting("local (processes of this machine) or ray.", "local")
    ray_address: str | None = setting("Address of the Ray cluster, or auto for the one of this node.", None)
    population: str = setting(
        "Train runs of one dataset and network as one stack: a number of runs, off, or auto. auto stacks as many as "
        "fit on an NVIDIA GPU, which one small network does not fill, and none on a CPU, where it gains nothing.",
        "auto",
    )
    gpus_per_run: float | None = setting("On Ray, GPUs for each run; 0.5 lets two runs share one.", None)

    def __post_init__(self) -> None:
        """Check the values; raises `ConfigError` naming the option."""
        if self.executor not in EXECUTORS:
            raise unknown_name("executor", self.executor, list(EXECUTORS))
        if self.jobs is not None and not 1 <= self.jobs <= 1024:
            raise ConfigError("jobs", f"must be 1 to 1024, not {self.jobs}")
        if self.population not in ("auto", "off"):
            self._check_population()
        if self.executor != "ray":
            for name in ("ray_address", "gpus_per_run"):
                if getattr(self, name) is not None:
                    raise ConfigError(name, "has no effect without --executor ray; remove it")
        if self.gpus_per_run is not None and not 0 <= self.gpus_per_run <= 64:
            raise ConfigError("gpus_per_run", f"must be 0 to 64, not {self.gpus_per_run:g}")

    def _check_population(self) -> None:
        if not (re.fullmatch(r"\d{1,4}", self.population) and 1 <= int(self.population) <= 1024):
            raise ConfigError("population", f"must be 1 to 1024, auto or off, not {self.population}")
        if self.executor != "local":
            raise ConfigError("population", "has no effect without --executor local; remove it")


def threads_per_job(jobs: int, threads: int | None) -> int | None:
    """Return the CPU threads that each of `jobs` parallel runs on this machine may use; None for a lone run.

    Raises `ConfigError` where that many jobs, or `threads` for each, exceed the processor cores: two busy threads on
    one core are many times slower than one after the other.
    """
    cores = usable_cores()
    if jobs > cores:
        raise ConfigError("jobs", f"{jobs} is more than the {cores} processor cores here; use {cores} or fewer")
    if jobs > 1 and jobs * (threads or 1) > cores:
        raise ConfigError("threads", f"{threads} for each of {jobs} runs exceed the {cores} processor cores here")
    return None if jobs == 1 else cores // jobs
