"""Claim: a training epoch of MNIST takes at most 0.65 of the time that it takes pythae.

Run `ALDVAE_DATA_DIR=... python benchmarks/pythae_epoch.py` where pythae is installed: the paper's 54,000 images at size
100, the same network, optimiser and batch size, one thread. `--precision bfloat16` is aldvae's alone.
"""

from __future__ import annotations

import argparse
import tempfile

import torch
from pythae_sizes import make_trainer
from timing import medians, report

from aldvae.config.execution import Execution
from aldvae.config.resolve import Overrides, resolve
from aldvae.training.inputs import InputCache, load_data
from aldvae.training.trainer import Trainer
from aldvae.utils.devices import cpu_settings


def main() -> None:
    """Time both alternately, after an epoch of each that does not count."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--precision", default="float32")
    arguments = parser.parse_args()
    config = resolve("fixed", "mnist", Overrides({"init_dim": 100, "fid_features": "none"}))
    data = load_data(config, Execution(), InputCache())
    epochs = iter(range(1, 1000))
    with cpu_settings(1), tempfile.TemporaryDirectory() as folder:
        theirs = make_trainer(config, data, 100, folder)
        theirs.prepare_training()
        ours = Trainer(config.override(precision=arguments.precision), data, torch.device("cpu"))
        ways = {
            "pythae": lambda: theirs.train_step(next(epochs)),
            f"aldvae, {arguments.precision}": lambda: ours.train_epoch(next(epochs)),
        }
        medians(ways, 1)
        seconds = medians(ways, arguments.repetitions)
    print(f"an epoch of {len(data.train)} images, one thread, {arguments.repetitions} repetitions")
    report(seconds, "pythae")


if __name__ == "__main__":
    main()
