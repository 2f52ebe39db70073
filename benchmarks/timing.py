"""Timing several ways of doing one thing, side by side in one process."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping


def medians(ways: Mapping[str, Callable[[], object]], repetitions: int) -> dict[str, float]:
    """Call each of `ways` in turn, `repetitions` times; return the median seconds of each."""
    seconds: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(repetitions):
        for name, call in ways.items():
            begin = time.perf_counter()
            call()
            seconds[name].append(time.perf_counter() - begin)
    return {name: statistics.median(measured) for name, measured in seconds.items()}


def report(seconds: Mapping[str, float], against: str) -> None:
    """Print seconds, and how many times as fast as `against` each way is."""
    for name, value in seconds.items():
        print(f"{name:32} {value:9.4f} s  {seconds[against] / value:7.1f} x")
