"""The problems of the benchmark, and what every way to choose a size returns."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from aldvae.analysis.series import GroupKey, model_key
from aldvae.config.execution import Execution
from aldvae.config.run_config import METRICS_SETTINGS, RunConfig
from aldvae.data.dataset import Dataset, to_float
from aldvae.runs.results import Result, read_result
from aldvae.sweeps.jobs import Job
from aldvae.training.inputs import InputCache, load_data
from aldvae.training.loop import run
from aldvae.utils.seeding import generator

# Models that are trained for a peer lie in this folder beside the grid, so that they do not become part of it.
PEER_RUNS = "peers"
# The columns of peers.csv, a row for each answer of a peer with one seed.
COLUMNS = (
    "problem",
    "method",
    "seed",
    "size",
    "found",
    "loss",
    "answer_images",
    "answer_seconds",
    "model_images",
    "model_seconds",
    "model",
)
# More samples make estimates from the data slow and hardly more exact.
MOST_SAMPLES = 5000


class Cost(NamedTuple):
    """Training samples seen (each once an epoch) and seconds."""

    images: int
    seconds: float


class Answer(NamedTuple):
    """The `size` that a method chooses for one seed, and its `cost`.

    It is not `found` if it was merely the largest size tried. `is_trained` says that a model of this size is left and
    its training is part of the cost.
    """

    size: int
    cost: Cost
    found: bool = True
    is_trained: bool = False


@dataclass(frozen=True)
class Problem:
    """A dataset and the settings of a model: `config`, in which only latent size and seed vary."""

    config: RunConfig
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]
    execution: Execution

    @property
    def name(self) -> str:
        """The name of the problem in tables."""
        return problem_name(self.config)

    @property
    def largest(self) -> int:
        """The oversized model of the grid, from which several methods start."""
        return max(self.sizes)

    @cached_property
    def data(self) -> Dataset:
        """The data of its runs."""
        return load_data(self.config, self.execution, InputCache())

    def samples(self, seed: int) -> Tensor:
        """Return at most `MOST_SAMPLES` random training samples as input for a network, (N, *shape)."""
        x = self.data.train.x
        return to_float(x[torch.randperm(len(x), generator=generator(seed, "peer samples"))[:MOST_SAMPLES]])

    def configured(self, size: int, seed: int) -> RunConfig:
        """Return the settings of the model of fixed `size` with this `seed`."""
        return self.config.override(init_dim=size, seed=seed)

    def trained(self, size: int, seed: int) -> Result:
        """Return the run of fixed `size`: one of the grid's, or one that is trained for the peers if need be."""
        results_dir = self.execution.results_dir
        if size not in self.sizes:
            results_dir = results_dir / PEER_RUNS
        outcome = run(self.configured(size, seed), replace(self.execution, results_dir=results_dir))
        result = read_result(outcome.path)
        assert result is not None
        return result


Peer = Callable[[Problem, int], Answer]


def problem_name(config: RunConfig) -> str:
    """Return a short name: the dataset and those settings that tell the problems of the benchmark apart."""
    model, data = config.model, config.data
    parts = [Path(data.dataset).stem]
    parts += [model.likelihood] if data.dataset == "eurosat" else []
    parts += [f"beta {model.beta:g}"] if model.beta != 1 else []
    parts += [f"{model.posterior} posterior"] if model.posterior != "gaussian" else []
    parts += ["all images"] if data.dataset in ("mnist", "fashionmnist") and data.limit is None else []
    return ", ".join(parts)


def known_factors(config: RunConfig) -> int | None:
    """Return the number of factors behind the samples if the data were made from so many; None for real data."""
    match = re.fullmatch(r"(?:linear|curved|factors)(\d+)\.npz", config.data.dataset)
    return int(match[1]) if match else None


def problem_key(config: RunConfig) -> GroupKey:
    """Return the settings that all runs on a problem share: those of data, model and training."""
    return model_key(config, "clusters", *METRICS_SETTINGS)


def find_problems(jobs: Iterable[Job], execution: Execution) -> list[Problem]:
    """Return a problem for each grid of fixed sizes among the jobs of a plan, in their order."""
    groups: dict[GroupKey, list[Job]] = {}
    for job in jobs:
        if job.config.compression is None:
            groups.setdefault(problem_key(job.config), []).append(job)
    return [_problem(group, execution) for group in groups.values()]


def _problem(grid: list[Job], execution: Execution) -> Problem:
    sizes = sorted({job.config.model.init_dim for job in grid})
    seeds = sorted({job.config.training.seed for job in grid})
    return Problem(grid[0].config, tuple(sizes), tuple(seeds), replace(execution, own_data=grid[0].own_data))


def cost_of(result: Result) -> Cost:
    """Return the cost of a finished run, training and metrics."""
    return Cost(result.answer["epochs"] * result.answer["train_samples"], result.seconds)


def final_loss(result: Result) -> float:
    """Return the loss after the last epoch on the validation samples: `recon_loss` + beta `kl`, in nats per sample."""
    final = result.answer["final"]
    recon_loss, kl = final["recon_loss"], final["kl"]
    assert isinstance(recon_loss, int | float)
    assert isinstance(kl, int | float)
    return recon_loss + result.config.model.beta * kl
