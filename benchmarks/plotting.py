"""Plot 200 runs of 200 epochs: `python benchmarks/plotting.py` prints the seconds of one ``aldvae plot``.

The runs are copies of one real run on digits with other seeds; the time is that of reading and drawing. The lower
limit is reading their tables alone.
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
        config = resolve("adaptive", "digits", Overrides({"stop": False}))
        source = run(config, Execution(results_dir=Path(root) / "one")).path
        for seed in range(RUNS):
            copy = config.override(seed=seed)
            target = shutil.copytree(source, Path(root) / "many" / copy.name)
            (target / "config.json").write_text(json.dumps({"settings": copy.to_json(), "inputs": {}}))
        begin = time.monotonic()
        command = [sys.executable, "-m", "aldvae", "plot", str(Path(root) / "many")]
        completed = subprocess.run(command, check=True, capture_output=True, text=True)
        seconds = time.monotonic() - begin
        begin = time.monotonic()
        for table in (Path(root) / "many").glob("*/*.csv"):
            pd.read_csv(table)
        reading = time.monotonic() - begin
    print(
        f"{RUNS} runs of {config.training.epochs} epochs: {len(completed.stdout.splitlines())} files in {seconds:.1f} s"
    )
    print(f"roofline: reading the tables alone in {reading:.1f} s; {machine()}")


if __name__ == "__main__":
    main()
