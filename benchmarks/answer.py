"""Seconds from a command to the latent size that it prints: aldvae, two ways with pythae, and TwoNN.

``ALDVAE_DATA_DIR=... python benchmarks/answer.py --datasets digits,table,mnist,fashionmnist,eurosat`` runs each way as
a process and writes ``answer.csv``: its size and seconds, the import of libraries and the reading of data included.
"first" starts with an empty cache; all others find decoded data and, for aldvae, features there. pythae trains the same
network with the same batch size and epochs: once, with too many dimensions, whose active units are counted, or in six
sizes. pythae and scikit-dimension are needed (``pip install 'aldvae[pythae,peers]'``); a way whose library is missing
is left out. ``--limit 500 --epochs 12`` tries the script; start it on a machine that does nothing else.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from importlib.util import find_spec
from pathlib import Path

import numpy as np
from sklearn.datasets import load_breast_cancer
from timing import machine

from aldvae.config.options import Value, flag
from aldvae.runs.records import csv_text

PEERS = Path(__file__).with_name("pythae_sizes.py")
COLUMNS = ("dataset", "way", "size", "seconds", "repetitions")
# The library that each way needs beside aldvae.
LIBRARIES = {"units": "pythae", "grid": "pythae", "twonn": "skdim"}
TITLES = {"units": "active units, pythae", "grid": "grid of six sizes, pythae", "twonn": "TwoNN"}


@dataclass(frozen=True)
class Problem:
    """A dataset, the settings of the run, and the sizes of the grid; the largest is that of the oversized model."""

    dataset: str
    sizes: str
    settings: dict[str, Value] = field(default_factory=dict)


# Sizes are those of experiments/benchmark.toml; epochs, where none are set, the protocol's.
PROBLEMS = {
    "digits": Problem("digits", "2,3,4,6,8,32"),
    "table": Problem("table.npz", "6,8,12,16,24,30"),
    "mnist": Problem("mnist", "8,10,12,16,24,64"),
    "fashionmnist": Problem("fashionmnist", "4,6,8,12,16,64"),
    "eurosat": Problem("eurosat", "2,4,6,8,16,64", {"epochs": 30, "limit": 6000}),
}


def timed(command: list[str], cache: Path) -> tuple[str, float]:
    """Return what `command` prints, and the seconds of its process, which uses the folder `cache`."""
    start = time.perf_counter()
    environment = {**os.environ, "ALDVAE_CACHE_DIR": str(cache)}
    done = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True, env=environment)
    return done.stdout, time.perf_counter() - start


def ours(problem: Problem, root: Path, more: dict[str, Value]) -> tuple[str, float]:
    """Return the size that ``aldvae adaptive --answer-only`` prints, and its seconds."""
    settings = {**problem.settings, **more}
    options = [word for name, value in settings.items() for word in (flag(name), str(value))]
    with tempfile.TemporaryDirectory() as results:
        command = ["adaptive", "--dataset", problem.dataset, "--protocol", "recommended", *options]
        line = [sys.executable, "-m", "aldvae", *command, "--answer-only", "--results-dir", results]
        text, seconds = timed(line, root / "cache")
    return re.findall(r"Latent size (\d+)|$", text)[0], seconds


def rows(name: str, problem: Problem, arguments: argparse.Namespace, root: Path) -> Iterator[tuple[object, ...]]:
    """Yield a row of the table for each way."""
    small = {key: value for key in ("limit", "epochs") if (value := getattr(arguments, key)) is not None}
    if arguments.limit is not None and name != "table":
        small |= {"fid_samples": 50, "silhouette_samples": 50}
    peer = [sys.executable, str(PEERS)]
    settings, n = json.dumps({**problem.settings, **small}), arguments.repetitions
    first = ours(problem, root, small)
    yield name, "aldvae --answer-only, first", first[0], round(first[1], 1), 1
    calls = {"aldvae --answer-only": partial(ours, problem, root, small)}
    for way in LIBRARIES:
        if find_spec(LIBRARIES[way]) is not None:
            line = [*peer, way, problem.dataset, settings, problem.sizes]
            calls[TITLES[way]] = partial(timed, line, root / "cache")
    measured: dict[str, list[tuple[str, float]]] = {}
    for _ in range(n):
        for title, call in calls.items():
            measured.setdefault(title, []).append(call())
    for title, results in measured.items():
        sizes = sorted({text.split()[-1] if text.split() else "" for text, _ in results})
        yield name, title, " ".join(sizes), round(statistics.median(seconds for _, seconds in results), 1), n


def main() -> None:
    """Measure the datasets; write and print the table after each."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--datasets", default=",".join(PROBLEMS), help=f"some of {','.join(PROBLEMS)}")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--limit", type=int, help="so many samples of each dataset")
    parser.add_argument("--epochs", type=int, help="so many epochs of each run")
    parser.add_argument("--output", type=Path, default=Path(__file__).with_suffix(".csv"))
    arguments = parser.parse_args()
    names = arguments.datasets.split(",")
    if unknown := set(names) - set(PROBLEMS):
        parser.error(f"--datasets: {', '.join(sorted(unknown))} is not one of {', '.join(PROBLEMS)}")
    table: list[tuple[object, ...]] = [COLUMNS]
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        np.savez(root / "table.npz", x=load_breast_cancer().data)
        for name in names:
            problem = PROBLEMS[name]
            if name == "table":
                problem = Problem(str(root / problem.dataset), problem.sizes, problem.settings)
            for row in rows(name, problem, arguments, root / name):
                table.append(row)
                print(*row, sep=" | ", flush=True)
            arguments.output.write_text(csv_text(table))
    print(machine())


if __name__ == "__main__":
    main()
