"""Claims: training on a CPU runs at twice the rate of a plain PyTorch loop, and at 60% of that of the bare products.

`ALDVAE_DATA_DIR=... python benchmarks/training.py mnist` (the fully connected network) or `eurosat` (the convolutional
one) prints the seconds of an epoch of each at size 100, and the ratios; `plain.py` holds the baselines.
"""

from __future__ import annotations

import argparse

import torch
from plain import bare_epoch, conv, conv_work, mlp, mlp_work, plain_epoch
from timing import medians, report, roofline

from aldvae.config.execution import Execution
from aldvae.config.resolve import Overrides, resolve
from aldvae.data.dataset import to_float
from aldvae.training.inputs import InputCache, load_data
from aldvae.training.trainer import Trainer
from aldvae.utils.devices import cpu_settings

# For each dataset: the samples of an epoch, the plain network, and the bare work of a step.
CASES = {"mnist": (20_000, mlp, mlp_work), "eurosat": (2_000, conv, conv_work)}
FLOOR = "products alone"


def main() -> None:
    """Time an epoch of each way alternately."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("case", choices=CASES)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repetitions", type=int, default=5)
    arguments = parser.parse_args()
    limit, network, work = CASES[arguments.case]
    config = resolve(
        "adaptive", arguments.case, Overrides({"limit": limit, "fid_features": "none", "init_dim": 100}, "paper")
    )
    with cpu_settings(arguments.threads):
        data = load_data(config, Execution(), InputCache())
        images, step = to_float(data.train.x), work()
        trainer, half = (
            Trainer(config.override(precision=precision), data, torch.device("cpu"))
            for precision in ("float32", "bfloat16")
        )
        epochs = iter(range(1, 1000))
        ways = {
            "plain loop": lambda: plain_epoch(network, images),
            "aldvae": lambda: trainer.train_epoch(next(epochs)),
            "aldvae, bfloat16": lambda: half.train_epoch(next(epochs)),
            FLOOR: lambda: bare_epoch(step, len(images)),
        }
        seconds = medians(ways, arguments.repetitions)
    print(f"an epoch of {len(images)} images, {arguments.threads} threads, {arguments.repetitions} repetitions")
    report(seconds, "plain loop")
    roofline(seconds, "aldvae", FLOOR)


if __name__ == "__main__":
    main()
