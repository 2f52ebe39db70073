"""Seconds from the command to the first training step: `ALDVAE_DATA_DIR=... python benchmarks/startup.py`.

Runs ``aldvae adaptive --dataset mnist --fid-features classifier`` in a process that ends at the optimiser's first step.
A first repetition fills the caches and does not count. The lower limit is a process that only imports torch.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile

from timing import medians, report, roofline

REPETITIONS = 5
# The user's command, except that it exits where training starts.
CODE = """
import os, torch
torch.optim.Adam.step = lambda *_: os._exit(0)
from aldvae.cli import main
main()
"""

FLOOR = "import torch"


def python(code: str, *options: str) -> None:
    """Run `code` in a separate process."""
    subprocess.run([sys.executable, "-c", code, *options], check=True, stderr=subprocess.DEVNULL)


def command() -> None:
    """Start a run of MNIST."""
    with tempfile.TemporaryDirectory() as root:
        python(CODE, "adaptive", "--dataset", "mnist", "--fid-features", "classifier", "--results-dir", root)


def main() -> None:
    """Print the medians."""
    ways = {"command to first step": command, FLOOR: lambda: python("import torch")}
    medians(ways, repetitions=1)
    seconds = medians(ways, REPETITIONS)
    report(seconds, FLOOR)
    roofline(seconds, "command to first step", FLOOR)


if __name__ == "__main__":
    main()
