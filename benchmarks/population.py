"""Claim: on a CPU a stack of runs is no faster than one run after another, so sweeps do not stack runs there.

Run `ALDVAE_DATA_DIR=... python benchmarks/population.py`; digits and MNIST at size 32, `--runs` seeds, float32. On a
machine with an NVIDIA GPU add `--device cuda`.
"""

from __future__ import annotations

import argparse

import torch
from timing import medians, report

from aldvae.config.execution import Execution
from aldvae.config.resolve import Overrides, resolve
from aldvae.training.inputs import InputCache, load_data
from aldvae.training.stacked import train_stack
from aldvae.training.trainer import Trainer
from aldvae.utils.devices import cpu_settings


def compare(dataset: str, limit: int | None, runs: int, device: torch.device, repetitions: int) -> None:
    """Time an epoch of all runs, one after another and as a stack, alternately."""
    config = resolve("adaptive", dataset, Overrides({"init_dim": 32, "limit": limit, "fid_features": "none"}, "paper"))
    configs = [config.override(seed=seed) for seed in range(runs)]
    data = load_data(configs[0], Execution(), InputCache())
    alone, stacked = ([Trainer(config, data, device) for config in configs] for _ in range(2))

    def one_after_another(epoch: int) -> None:
        for trainer in alone:
            trainer.train_epoch(epoch)

    # Both return the losses as numbers, so both wait for a GPU.
    epochs = iter(range(1, 1000))
    ways = {
        "one after another": lambda: one_after_another(next(epochs)),
        "as one stack": lambda: train_stack(stacked, next(epochs)),
    }
    medians(ways, repetitions=1)
    print(f"{dataset}: an epoch of {len(data.train)} samples, {runs} runs, {repetitions} repetitions")
    report(medians(ways, repetitions), "one after another")


def main() -> None:
    """Compare on both datasets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--repetitions", type=int, default=5)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--threads", type=int, default=1)
    arguments = parser.parse_args()
    with cpu_settings(arguments.threads):
        for dataset, limit in (("digits", None), ("mnist", 4000)):
            compare(dataset, limit, arguments.runs, torch.device(arguments.device), arguments.repetitions)


if __name__ == "__main__":
    main()
