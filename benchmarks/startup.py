"""Seconds from the command to the first training step: `ALDVAE_DATA_DIR=... python benchmarks/startup.py`.

Runs ``aldvae adaptive --dataset mnist --fid-features classifier`` in a process that ends at the optimiser's first step;
the caches are warm after the first of the repetitions, which does not count.
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import tempfile
import time

REPETITIONS = 5
# What a user's command does, but that it ends where training begins.
CODE = """
import os, torch
torch.optim.Adam.step = lambda *_: os._exit(0)
from aldvae.cli import main
main()
"""


def main() -> None:
    """Print the median."""
    seconds = []
    for _ in range(REPETITIONS + 1):
        with tempfile.TemporaryDirectory() as root:
            options = ["adaptive", "--dataset", "mnist", "--fid-features", "classifier", "--results-dir", root]
            begin = time.monotonic()
            subprocess.run([sys.executable, "-c", CODE, *options], check=True, stderr=subprocess.DEVNULL)
            seconds.append(time.monotonic() - begin)
    warm = sorted(seconds[1:])
    print(f"first step after {statistics.median(warm):.2f} s (median of {len(warm)}; {warm[0]:.2f} to {warm[-1]:.2f})")


if __name__ == "__main__":
    main()
