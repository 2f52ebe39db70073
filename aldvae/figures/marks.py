"""Rows of marks: for each named row a mark at the latent size of each seed."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate

from matplotlib.axes import Axes

from aldvae.figures.style import wrapped

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
