"""The provenance of a result: versions, code and hardware, but no paths of the machine."""

from __future__ import annotations

import platform
import subprocess
from functools import cache
from importlib.metadata import version
from pathlib import Path

import torch

import aldvae
from aldvae.runs.records import ChosenPrecision, Session

_PACKAGES = ("torch", "torchvision", "numpy", "scikit-learn", "pytorch-fid")


def session(
    device: torch.device, threads: int, first_epoch: int, plan: str | None, precision: ChosenPrecision
) -> Session:
    """Describe this process as a session that works on a run from `first_epoch` on.

    `plan` is the plan file that the run is part of, None without one, `precision` what was chosen if it
    leaves that to the machine.
    """
    described: Session = {
        "first_epoch": first_epoch,
        "aldvae": aldvae.__version__,
        "commit": _commit(),
        "python": platform.python_version(),
        "packages": {name: version(name) for name in _PACKAGES},
        "system": f"{platform.system()} {platform.machine()}",
        "processor": _processor(),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else device.type,
        "threads": threads,
    }
    if plan is not None:
        described["plan"] = plan
    if "precision" in precision:
        described["precision"] = precision["precision"]
    return described


@cache
def _commit() -> str | None:
    """Return the commit of a source checkout, with a + if files differ from it; None for an installed package."""
    root = Path(__file__).parents[2]
    if not (root / ".git").exists():
        return None
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--abbrev=12", "--exclude=*", "--dirty=+"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return None
    return described.stdout.strip()


@cache
def _processor() -> str:
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()
