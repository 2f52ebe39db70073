"""What a person looks at after a run: its figures and its report, in its own directory."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from aldvae.reporting.figures.curve import draw_curve_of_run
from aldvae.reporting.figures.run_overview import draw_overview
from aldvae.reporting.html_report import write_report

REPORT = "report.html"


def write_evidence(path: Path) -> None:
    """Write ``overview.png``, ``curve.png`` and ``report.html`` of the finished run in the directory `path`.

    Files that are there are left alone; there is no ``curve.png`` without a curve. Raises `ConfigError` if the tables
    of the run are lost or damaged.
    """
    files: dict[str, Callable[[Path], object]] = {
        "overview.png": draw_overview,
        "curve.png": draw_curve_of_run,
        REPORT: lambda directory: write_report(directory, directory / REPORT),
    }
    for name, write in files.items():
        if not (path / name).exists():
            write(path)
