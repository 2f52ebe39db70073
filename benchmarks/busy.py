"""Seconds of a run alone and beside other busy processes, with one and with two threads, which wait awake or asleep.

`ALDVAE_DATA_DIR=... python benchmarks/busy.py` runs ``aldvae adaptive`` on a table of 569 x 30 and on MNIST. The
default number of threads is measured too. "Awake": waiting threads spin for 3 ms, OpenMP's default, as before 0.2.0.
The seconds are those of training and metrics; start it on a machine that does nothing else. `--short` tries the script.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import product
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from timing import machine

# libgomp reads its number of spins before its policy, so this is what it does where neither is set.
AWAKE = {"GOMP_SPINCOUNT": "300000"}
WAYS = {"awake": AWAKE, "asleep": dict[str, str]()}
THREADS = ("1", "2", "default")
BUSY = (0, 1, 2)


@contextmanager
def busy(number: int) -> Iterator[None]:
    """Run `number` processes that each keep a core busy."""
    processes = [subprocess.Popen([sys.executable, "-c", "while True: pass"]) for _ in range(number)]
    try:
        yield
    finally:
        for process in processes:
            process.kill()
            process.wait()


def seconds(options: list[str], threads: str, environment: dict[str, str]) -> float:
    """Return the seconds of training and metrics of one run with these `options`."""
    limit = [] if threads == "default" else ["--threads", threads]
    with tempfile.TemporaryDirectory() as root:
        line = [sys.executable, "-m", "aldvae", "adaptive", *options, *limit, "--results-dir", root]
        inherited = {name: v for name, v in os.environ.items() if name not in ("OMP_NUM_THREADS", "OMP_WAIT_POLICY")}
        subprocess.run(line, check=True, capture_output=True, env={**inherited, **environment})
        (path,) = Path(root).glob("*/summary.json")
        summary = json.loads(path.read_text())
    return float(summary["train_seconds"] + summary["metrics_seconds"])


def measure(name: str, options: list[str], repetitions: int) -> None:
    """Print a row for each way of waiting and number of threads, a column for each number of busy processes."""
    measured: dict[tuple[str, str, int], list[float]] = {}
    for _, number in product(range(repetitions), BUSY):
        with busy(number):
            for way, threads in product(WAYS, THREADS):
                measured.setdefault((way, threads, number), []).append(seconds(options, threads, WAYS[way]))
    print(f"{name}, {repetitions} repetitions, medians; others busy: {', '.join(map(str, BUSY))}")
    for way, threads in product(WAYS, THREADS):
        medians = [statistics.median(measured[way, threads, number]) for number in BUSY]
        cells = "  ".join(f"{value:8.2f} s ({value / medians[0]:5.2f} x)" for value in medians)
        print(f"{way:7} {threads + ' threads':16} {cells}", flush=True)


def main() -> None:
    """Measure both datasets."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--short", action="store_true", help="a few epochs of few samples")
    arguments = parser.parse_args()
    table_epochs, limit, epochs = ("6", "1500", "2") if arguments.short else ("60", "12000", "4")
    with tempfile.TemporaryDirectory() as root:
        x, labels = load_breast_cancer(return_X_y=True)
        np.savez(Path(root) / "table.npz", x=x, labels=labels)
        common = ["--fid-samples", "50", "--silhouette-samples", "50"]
        table = ["--dataset", f"{root}/table.npz", "--epochs", table_epochs, *common]
        mnist = ["--dataset", "mnist", "--fid-features", "pca", "--limit", limit, "--epochs", epochs, *common]
        measure("table of 569 x 30", table, arguments.repetitions)
        measure(f"MNIST, {limit} images", mnist, arguments.repetitions)
    print(f"{machine()}; that load includes these processes")


if __name__ == "__main__":
    main()
