"""Claim: in a run of 10,000 epochs, the last epochs cost as much as the first.

`python benchmarks/long_runs.py` trains on 100 digits and prints the milliseconds of an epoch, with metrics, tables and
checkpoint, and the bytes of the checkpoint, for each tenth of the run.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from pathlib import Path

from timing import machine

from aldvae.compression.steps import Step
from aldvae.config.execution import Execution
from aldvae.config.options import Value
from aldvae.config.resolve import Overrides, resolve
from aldvae.training.callbacks import Callback, Row
from aldvae.training.loop import run

SETTINGS: dict[str, Value] = {
    "limit": 100,
    "hidden_dim": 8,
    "init_dim": 10,
    "min_dim": 10,
    "stop": False,
    "fid_features": "none",
    "silhouette_samples": 12,
}


class Stopwatch(Callback):
    """Takes the seconds of each epoch and the bytes of its checkpoint."""

    def __init__(self, directory: Path, epochs: int) -> None:
        """Prepare for a run in `directory`."""
        self.directory, self.tenth = directory, max(1, epochs // 10)
        self.seconds, self.last = list[float](), time.perf_counter()

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:  # noqa: ARG002
        """Print a line after each tenth of the run."""
        self.seconds.append(time.perf_counter() - self.last)
        if epoch % self.tenth == 0:
            median = statistics.median(self.seconds[-self.tenth :])
            size = (self.directory / "checkpoint.pt").stat().st_size
            print(f"up to epoch {epoch:6}: {1000 * median:7.2f} ms an epoch, checkpoint {size:9,} bytes", flush=True)
        self.last = time.perf_counter()


def main() -> None:
    """Run it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=10_000)
    arguments = parser.parse_args()
    config = resolve("adaptive", "digits", Overrides({**SETTINGS, "epochs": arguments.epochs}, "paper"))
    with tempfile.TemporaryDirectory() as root:
        path = Path(root)
        run(config, Execution(results_dir=path, threads=1), Stopwatch(path / config.name, arguments.epochs))
    print(machine())


if __name__ == "__main__":
    main()
