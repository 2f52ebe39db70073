"""Kill sweeps on digits at random moments: the results must be byte-identical to those of undisturbed sweeps.

`python benchmarks/kills.py` runs grid, sweep-init and seeds over two seeds with ``--jobs 2``, once undisturbed and once
with ten SIGKILLs, alternately to the driver and to one of its workers. The exit code is 1 if any byte differs.
"""

from __future__ import annotations

import argparse
import json
import random
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

SWEEPS = (("grid", "--dims", "2,8,16"), ("sweep-init", "--init-dims", "32,16"), ("seeds",))
TABLES = ("metrics.csv", "latent.csv", "decisions.csv", "config.json", "model.safetensors")


def command(sweep: tuple[str, ...], epochs: int, results_dir: Path) -> list[str]:
    """Return the command of one of the `SWEEPS`."""
    common = [
        "--protocol",
        "paper",
        "--seeds",
        "0-1",
        "--jobs",
        "2",
        "--epochs",
        str(epochs),
        "--results-dir",
        str(results_dir),
    ]
    return [sys.executable, "-m", "aldvae", *sweep, *common]


def undisturbed(epochs: int, results_dir: Path) -> float:
    """Run all sweeps; return the seconds they took."""
    start = time.monotonic()
    for sweep in SWEEPS:
        subprocess.run(command(sweep, epochs, results_dir), check=True, capture_output=True)
    return time.monotonic() - start


def disturbed(epochs: int, results_dir: Path, kills: int, seconds: float, killed: Counter[str]) -> None:
    """Run all sweeps, killed up to `kills` times at random moments within `seconds`; count each kind in `killed`."""
    for sweep in SWEEPS:
        while True:
            process = subprocess.Popen(
                command(sweep, epochs, results_dir), stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
            )
            while killed.total() < kills and process.poll() is None:
                # Some kills may fall into the first seconds of a process, which are imports.
                wait(process, random.uniform(1, 1 + 2 * seconds / kills))
                victim = "worker" if killed["worker"] < killed["driver"] else "driver"
                if process.poll() is None and kill(process, victim):
                    killed[victim] += 1
            if process.wait() == 0:
                break


def wait(process: subprocess.Popen[bytes], seconds: float) -> None:
    """Sleep for `seconds`, or until `process` has ended."""
    try:
        process.wait(seconds)
    except subprocess.TimeoutExpired:
        return


def kill(driver: subprocess.Popen[bytes], victim: str) -> bool:
    """Send SIGKILL to the driver or to one of its workers; return whether it was running."""
    if victim == "driver":
        driver.kill()
        driver.wait()
        return True
    try:
        children = Path(f"/proc/{driver.pid}/task/{driver.pid}/children").read_text().split()
        workers = [pid for pid in children if b"spawn_main" in Path(f"/proc/{pid}/cmdline").read_bytes()]
    except FileNotFoundError:
        return False
    if workers:
        subprocess.run(["kill", "-KILL", random.choice(workers)], check=False)
    return bool(workers)


def contents(results_dir: Path) -> dict[str, bytes]:
    """Return the contents of all files but times and provenance, which record the disturbance."""
    found = {}
    for run in sorted(results_dir.iterdir()):
        summary = json.loads((run / "summary.json").read_text())
        compared = {name: value for name, value in summary.items() if not name.endswith("_seconds")}
        found[f"{run.name}/summary.json"] = json.dumps(compared).encode()
        found |= {f"{run.name}/{name}": (run / name).read_bytes() for name in TABLES}
    return found


def main() -> None:
    """Run the sweeps both ways and compare."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--epochs", type=int, default=60)
    parser.add_argument("--seed", type=int, default=None, help="of the random moments")
    arguments = parser.parse_args()
    random.seed(arguments.seed)
    killed, differ, compared = Counter[str](), set[str](), 0
    with tempfile.TemporaryDirectory() as root:
        seconds = undisturbed(arguments.epochs, Path(root) / "undisturbed")
        expected = contents(Path(root) / "undisturbed")
        # The sweeps may end before the last kill.
        while killed.total() < arguments.kills:
            results_dir = Path(tempfile.mkdtemp(dir=root))
            disturbed(arguments.epochs, results_dir, arguments.kills, seconds, killed)
            found = contents(results_dir)
            compared += len(found)
            differ |= {name for name in expected.keys() | found.keys() if expected.get(name) != found.get(name)}
    print(f"kills: {killed['driver']} of the driver, {killed['worker']} of a worker")
    print(f"{compared} files of {compared // (len(TABLES) + 1)} runs compared, {len(differ)} differ")
    sys.exit(f"different: {', '.join(sorted(differ))}" if differ else 0)


if __name__ == "__main__":
    main()
