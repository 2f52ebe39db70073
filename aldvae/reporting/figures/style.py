"""How figures look: readable in print, told apart without colour, and the same file each time."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import accumulate
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, NullFormatter, ScalarFormatter

from aldvae.metrics.table import Metric
from aldvae.utils.files import write_figure

# Of Okabe and Ito: apart for the colour-blind, and of different lightness in gray; line styles help as well.
BLUE, ORANGE, BLACK, GREEN, PURPLE = "#0072b2", "#e69f00", "#000000", "#009e73", "#cc79a7"
RED = "#d62728"
LINES = ((BLUE, "-"), (ORANGE, "--"), (BLACK, ":"), (GREEN, "-."), (PURPLE, "-"))
# Inches: a column and a page of text, a panel's height; points: text, and the smallest.
COLUMN, PAGE, PANEL = 3.4, 7.0, 1.45
_TEXT = 7
SMALL = 6.5
_LETTERS_PER_INCH = 17
_PRINT = {
    "font.size": _TEXT,
    "axes.titlesize": _TEXT + 1,
    "axes.labelsize": _TEXT,
    "xtick.labelsize": SMALL,
    "ytick.labelsize": SMALL,
    "legend.fontsize": SMALL,
    "axes.linewidth": 0.6,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "lines.linewidth": 1.0,
    "legend.frameon": False,
    # Fonts are embedded as they are; journals refuse the other kind.
    "pdf.fonttype": 42,
}


@contextmanager
def print_style() -> Iterator[None]:
    """Draw and save for print inside the context."""
    with mpl.rc_context(_PRINT):  # type: ignore[arg-type]
        yield


def save(figure: Figure, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Write `figure` as STEM.png, STEM.pdf or both; return the paths."""
    return [write_figure(figure, stem.with_name(f"{stem.name}.{kind}"), dpi=200) for kind in formats]


def wrapped(text: str, inches: float) -> str:
    """Return `text` in lines that are no wider than so many `inches` where it is `SMALL`."""
    return textwrap.fill(text, int(inches * _LETTERS_PER_INCH))


def fid_axis(axis: Axes) -> None:
    """Make the y axis of a Fréchet distance logarithmic, with numbers a reader knows."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axis.yaxis.set_major_formatter(ScalarFormatter())
    axis.yaxis.set_minor_formatter(NullFormatter())


def metric_label(metric: Metric, features: str) -> str:
    """Return the axis title of a metric; that of a Fréchet distance names the `features` behind it."""
    if not metric.frechet_of:
        return f"{metric.title}\n({metric.unit})" if metric.unit else metric.title
    if features == "none":
        return "Fréchet distance"
    if features == "inception":
        return f"FID of {metric.frechet_of}"
    return f"Fréchet d. of {metric.frechet_of}\n({features} features)"


_LONGEST_SLUG = 80


@dataclass
class Drawn:
    """Figures by their names, and a line for each thing that is missing, with the command that would make it."""

    figures: dict[str, Figure] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def __or__(self, other: Drawn) -> Drawn:
        """Return both together."""
        return Drawn(self.figures | other.figures, self.missing + other.missing)


def slug(label: str) -> str:
    """Return `label` as part of a file name; a long one is cut and told apart by a hash."""
    slug = "".join(f"-{part.strip().replace(' ', '-').replace('_', '-')}" for part in label.split(",") if part)
    if len(slug) <= _LONGEST_SLUG:
        return slug
    return f"{slug[:_LONGEST_SLUG]}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"


# Inches of a line of text.
_LINE = 0.13


class Rows:
    """Rows on an axis, named at its left in lines no wider than so many inches."""

    def __init__(self, names: Sequence[str], inches: float) -> None:
        """Give each row the lines its name takes, and one more that keeps it apart from the next."""
        self.names = [wrapped(name.replace("_", " "), inches) for name in names]
        lines = [name.count("\n") + 2 for name in self.names]
        self.places = [end - height / 2 for end, height in zip(accumulate(lines), lines, strict=True)]
        self._lines = sum(lines)

    @property
    def height(self) -> float:
        """The inches that all rows take."""
        return _LINE * self._lines

    def label(self, axis: Axes) -> None:
        """Put the names on the axis."""
        axis.set_yticks(self.places, self.names)
        axis.set_ylim(self._lines, 0)

    def mark(self, axis: Axes, row: int, size: int, colour: str, found: bool) -> None:
        """Set a mark at `size`, hollow where it was reached and not found."""
        fill = "full" if found else "none"
        axis.plot(size, self.places[row], "o", color=colour, markersize=4, fillstyle=fill, alpha=0.7)
