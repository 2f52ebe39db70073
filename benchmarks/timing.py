"""Time several ways of doing the same thing, alternately in one process."""

from __future__ import annotations

import os
import re
import statistics
import time
from collections.abc import Callable, Mapping
from datetime import date
from pathlib import Path


def medians(ways: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Call all `ways` in turn, `repetitions` times; return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, call in ways.items():
            start = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - start)
    return {name: statistics.median(measured) for name, measured in seconds.items()}


def report(seconds: Mapping[str, float], against: str) -> None:
    """Print the seconds of each way, its speed relative to `against`, and the machine."""
    for name, value in seconds.items():
        print(f"{name:32} {value:9.4f} s  {seconds[against] / value:7.2f} x")
    print(machine())


def roofline(seconds: Mapping[str, float], way: str, floor: str) -> None:
    """Print which fraction of the rate of `floor`, the hardware's limit, `way` reaches."""
    fraction = seconds[floor] / seconds[way]
    print(f"roofline: {floor} in {seconds[floor]:.4f} s; {way} reaches {fraction:.0%} of that rate")


def machine() -> str:
    """Describe the machine and the date; it counts as busy if its load exceeds that of this process."""
    cpuinfo = Path("/proc/cpuinfo").read_text() if Path("/proc/cpuinfo").exists() else ""
    name = re.search(r"model name\s*: (.*)", cpuinfo)
    load = os.getloadavg()[0]
    busy = f", busy: load {load:.1f}" if load > 2 else ""
    return f"on {date.today()}, {os.cpu_count()} cores of {name[1] if name else 'an unknown processor'}{busy}"
