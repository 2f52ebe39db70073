"""The cost of a sweep besides training: the overhead per run, the driver's memory, and two runs at a time.

`python benchmarks/sweeps.py overhead` runs 200 tiny runs on digits in one sweep. `python benchmarks/sweeps.py pairs`
compares two MNIST runs with ``--jobs 2`` to one single-threaded run that has the machine to itself, alternately; it
needs ALDVAE_DATA_DIR.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from process_memory import process_memory
from timing import machine

TINY = [
    "--protocol",
    "paper",
    "--limit",
    "300",
    "--epochs",
    "3",
    "--fid-samples",
    "80",
    "--silhouette-samples",
    "80",
    "--hidden-dim",
    "16",
]


def aldvae(*arguments: str | Path) -> subprocess.Popen[bytes]:
    """Start `aldvae` with `arguments` as a process."""
    line = [sys.executable, "-m", "aldvae", *map(str, arguments)]
    return subprocess.Popen(line, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def summaries(results_dir: Path) -> list[dict[str, float]]:
    """Return the summaries of the finished runs."""
    return [json.loads(path.read_text()) for path in results_dir.glob("*/summary.json")]


def overhead(runs: int) -> None:
    """Print the seconds per run outside training and metrics, and the driver's memory early and late."""
    with tempfile.TemporaryDirectory() as root:
        results_dir, memory = Path(root), list[tuple[int, float]]()
        aldvae("grid", "--dims", "2", "--seeds", "100", *TINY, "--results-dir", results_dir / "warm").wait()
        seeds = f"0-{runs - 1}"
        process = aldvae("grid", "--dims", "2", "--seeds", seeds, *TINY, "--results-dir", results_dir / "runs")
        first: float | None = None
        while process.poll() is None:
            done = len(list((results_dir / "runs").glob("*/summary.json")))
            if done and first is None:
                first = time.monotonic()
            memory.append((done, process_memory(process.pid, "VmRSS")))
            time.sleep(0.05)
        assert first is not None
        seconds = time.monotonic() - first
        compute_seconds = sum(s["train_seconds"] + s["metrics_seconds"] for s in summaries(results_dir / "runs"))
    print(f"{runs} runs: {seconds:.1f} s from the first run's end, {compute_seconds:.1f} s of it training and metrics")
    print(f"overhead: {(seconds - compute_seconds * (runs - 1) / runs) / (runs - 1):.3f} s a run")
    for fraction in (0.1, 0.5, 0.95):
        print(f"driver after {fraction:.0%}: {next(size for done, size in memory if done >= fraction * runs):.1f} MB")
    print(f"roofline: without overhead, 0 s a run; {machine()}")


def pairs(repetitions: int, epochs: int) -> None:
    """Print the ratio of wall times of two runs with ``--jobs 2`` and of one alone, each from command to end."""
    run = ["grid", "--dataset", "mnist", "--fid-features", "classifier", "--epochs", str(epochs), "--dims", "16"]
    ways = {"single": ["--seeds", "0", "--threads", "1"], "pair": ["--seeds", "0-1", "--jobs", "2"]}
    ratios = []
    with tempfile.TemporaryDirectory() as root:
        # The classifier behind the distances is trained once per machine, so before the measurement.
        aldvae(*run, "--seeds", "9", "--results-dir", Path(root) / "warm").wait()
        for number in range(repetitions):
            seconds = []
            for name, options in ways.items():
                start = time.monotonic()
                aldvae(*run, *options, "--results-dir", Path(root) / f"{name}{number}").wait()
                seconds.append(time.monotonic() - start)
            ratios.append(seconds[1] / seconds[0])
            print(f"one run {seconds[0]:.1f} s, two at a time {seconds[1]:.1f} s: {ratios[-1]:.2f} times", flush=True)
    print(f"roofline: two cores could do both in 1.00 times one run's time; {machine()}")
    print(f"median {statistics.median(ratios):.2f} times ({repetitions} pairs, {epochs} epochs)")


def main() -> None:
    """Run the benchmark that the command line names."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("benchmark", choices=["overhead", "pairs"])
    parser.add_argument("--runs", type=int, default=200)
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=6)
    arguments = parser.parse_args()
    if arguments.benchmark == "overhead":
        overhead(arguments.runs)
    else:
        pairs(arguments.repetitions, arguments.epochs)


if __name__ == "__main__":
    main()
