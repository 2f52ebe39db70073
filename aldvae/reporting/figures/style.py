"""The style of figures: readable in print and without colour, and byte-identical each time."""

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

# From Okabe and Ito's palette: distinct for the colour-blind and, by their lightness and line style, in gray.
BLUE, ORANGE, BLACK, GREEN, PURPLE = "#0072b2", "#e69f00", "#000000", "#009e73", "#cc79a7"
RED = "#d62728"
LINES = ((BLUE, "-"), (ORANGE, "--"), (BLACK, ":"), (GREEN, "-."), (PURPLE, "-"))
# Inches: the width of a column and of a page, and the height of a panel.
COLUMN, PAGE, PANEL = 3.4, 7.0, 1.45
# Points: normal and smallest text.
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
    # TrueType: many journals refuse Type 3 fonts.
    "pdf.fonttype": 42,
}


@contextmanager
def print_style() -> Iterator[None]:
    """Apply the print style inside the context, in which figures must be both drawn and saved."""
    with mpl.rc_context(_PRINT):  # type: ignore[arg-type]
        yield


def save(figure: Figure, stem: Path, formats: Sequence[str]) -> list[Path]:
    """Write `figure` as STEM.png, STEM.pdf or both; return the paths."""
    return [write_figure(figure, stem.with_name(f"{stem.name}.{kind}"), dpi=200) for kind in formats]


def wrap(text: str, inches: float) -> str:
    """Return `text` broken into lines that, in size `SMALL`, are at most so many `inches` wide."""
    return textwrap.fill(text, int(inches * _LETTERS_PER_INCH))


def fid_axis(axis: Axes) -> None:
    """Make the y axis of a Fréchet distance logarithmic, with plain numbers instead of powers of ten."""
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


@dataclass
class FigureSet:
    """Figures by name, and a line for each run that a figure lacks, with the command that makes it."""

    figures: dict[str, Figure] = field(default_factory=dict)
    missing: list[str] = field(default_factory=list)

    def __or__(self, other: FigureSet) -> FigureSet:
        """Return both sets together."""
        return FigureSet(self.figures | other.figures, self.missing + other.missing)


_LONGEST_SLUG = 80


def slug(label: str) -> str:
    """Return `label` as part of a file name; a long one is cut and made unique by a hash."""
    slug = "".join(f"-{part.strip().replace(' ', '-').replace('_', '-')}" for part in label.split(",") if part)
    if len(slug) <= _LONGEST_SLUG:
        return slug
    return f"{slug[:_LONGEST_SLUG]}-{hashlib.sha256(label.encode()).hexdigest()[:6]}"


# Inches: the height of a line of text.
_LINE = 0.13


class DotRows:
    """Rows of dots on an axis whose x is the latent size; each row has a name at its left."""

    def __init__(self, names: Sequence[str], inches: float) -> None:
        """Break each name into lines of at most so many `inches`; a blank line separates two rows."""
        self.names = [wrap(name.replace("_", " "), inches) for name in names]
        lines = [name.count("\n") + 2 for name in self.names]
        self.places = [end - height / 2 for end, height in zip(accumulate(lines), lines, strict=True)]
        self._lines = sum(lines)

    @property
    def height(self) -> float:
        """The height of all rows together, in inches."""
        return _LINE * self._lines

    def label(self, axis: Axes) -> None:
        """Put the names at the left of the axis."""
        axis.set_yticks(self.places, self.names)
        axis.set_ylim(self._lines, 0)

    def mark(self, axis: Axes, row: int, size: int, colour: str, found: bool) -> None:
        """Draw a dot at `size` in a row, hollow if the size was reached but not found."""
        fill = "full" if found else "none"
        axis.plot(size, self.places[row], "o", color=colour, markersize=4, fillstyle=fill, alpha=0.7)
