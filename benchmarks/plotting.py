"""Plot 200 runs of 200 epochs: `python benchmarks/plotting.py` prints the seconds of ``aldvae plot``.

The runs are copies of a real run on digits with other seeds. The time is that of reading and drawing; the lower limit
is that of reading the tables alone.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pandas as pd
from timing import machine

from aldvae.config.execution import Execution
from aldvae.config.resolve import Overrides, resolve
from aldvae.training.loop import run

RUNS = 200


def main() -> None:
    """Create the runs, plot them and print the seconds."""
    with tempfile.TemporaryDirectory() as root:
        config = resolve("adaptive", "digits", Overrides({"stop": False}, "paper"))
        source = run(config, Execution(results_dir=Path(root) / "original")).path
        for seed in range(RUNS):
            copy = config.override(seed=seed)
            target = shutil.copytree(source, Path(root) / "copies" / copy.name)
            (target / "config.json").write_text(json.dumps({"settings": copy.to_json(), "inputs": {}}))
        start = time.monotonic()
        command = [sys.executable, "-m", "aldvae", "plot", str(Path(root) / "copies")]
        completed = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.monotonic() - start
        start = time.monotonic()
        for table in (Path(root) / "copies").glob("*/*.csv"):
            pd.read_csv(table)
        reading = time.monotonic() - start
    print(
        f"{RUNS} runs of {config.training.epochs} epochs: {len(completed.stdout.splitlines())} files in {seconds:.1f} s"
    )
    print(f"roofline: reading the tables alone in {reading:.1f} s; {machine()}")


if __name__ == "__main__":
    main()
