"""Charts as inline SVG: light or dark with the page, and with the values under the pointer.

Here numbers become places; `templates/chart.html` draws them.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from math import inf
from typing import ClassVar

from matplotlib.ticker import MaxNLocator

_X_TICKS, _Y_TICKS = 6, 5


class Plot:
    """A plot in an SVG: its edges, and the places of numbers in it. On a phone, its units are pixels."""

    width: ClassVar[int] = 360
    height: ClassVar[int] = 200
    left: ClassVar[int] = 46
    right: ClassVar[int] = 350
    top: ClassVar[int] = 8
    bottom: ClassVar[int] = 166

    @property
    @abstractmethod
    def x_range(self) -> tuple[float, float]:
        """The x at the left and at the right edge."""

    @property
    @abstractmethod
    def y_range(self) -> tuple[float, float]:
        """The y at the bottom and at the top edge."""

    def x(self, value: float) -> float:
        """Return the place of `value` on the x axis."""
        low, high = self.x_range
        return round(self.left + (value - low) / (high - low) * (self.right - self.left), 1)

    def y(self, value: float) -> float:
        """Return the place of `value` on the y axis."""
        low, high = self.y_range
        return round(self.bottom - (value - low) / (high - low) * (self.bottom - self.top), 1)


@dataclass(frozen=True, kw_only=True)
class Line:
    """A line through points; `colour` is one of the classes ``c0`` to ``c9`` of the style sheet.

    `label` is its name under the pointer, `group` that in the legend, where lines of one group have one entry. A line
    with `steps` keeps its value up to the next x; one with `dots` shows its points, and if it is not `joined` these
    alone. A `hidden` line shows its values under the pointer alone.
    """

    label: str
    group: str = ""
    x: Sequence[float]
    y: Sequence[float]
    colour: str = "c0"
    steps: bool = False
    dots: bool = False
    joined: bool = True
    hidden: bool = False


@dataclass(frozen=True, kw_only=True)
class Chart(Plot):
    """Lines over one axis; at least one point is needed.

    The y axis starts at 0 with `from_zero`; values before the x `settled` do not widen it. `shaded` is the x up to
    which the background is shaded, as `shade_label` says. `picture` is the URI of an image that fills the plot, whose
    axes have the `picture_range` (x from and to, y from and to); `note` is a line below.
    """

    title: str
    x_label: str
    y_label: str
    lines: Sequence[Line] = ()
    from_zero: bool = False
    settled: float = -inf
    shaded: float | None = None
    shade_label: str = ""
    picture: str = ""
    picture_range: tuple[float, float, float, float] | None = None
    note: str = ""

    @cached_property
    def x_range(self) -> tuple[float, float]:
        """The x at the left and at the right edge."""
        if self.picture_range is not None:
            return self.picture_range[:2]
        return _widened(value for line in self.lines for value in line.x)

    @cached_property
    def y_range(self) -> tuple[float, float]:
        """The y at the bottom and at the top edge."""
        if self.picture_range is not None:
            return self.picture_range[2:]
        points = [(x, y) for line in self.lines if not line.hidden for x, y in zip(line.x, line.y, strict=True)]
        settled = min(self.settled, max(x for x, _ in points))
        low, high = _widened(y for x, y in points if x >= settled)
        margin = 0.04 * (high - low)
        return (0.0 if self.from_zero else low - margin, high + margin)

    @property
    def x_ticks(self) -> list[tuple[float, str]]:
        """Place and text of each tick of the x axis."""
        return [(self.x(tick), text) for tick, text in _ticks(self.x_range, _X_TICKS, True)]

    @property
    def y_ticks(self) -> list[tuple[float, str]]:
        """Place and text of each tick of the y axis."""
        return [(self.y(tick), text) for tick, text in _ticks(self.y_range, _Y_TICKS, False)]

    def points(self, line: Line) -> list[tuple[float, float]]:
        """Return the places of the points of a line."""
        return [(self.x(x), self.y(y)) for x, y in zip(line.x, line.y, strict=True)]

    def path(self, line: Line) -> str:
        """Return the path through the points of a line."""
        (x0, y0), *rest = self.points(line)
        return f"M{x0:g} {y0:g}" + "".join(f"H{x:g}V{y:g}" if line.steps else f"L{x:g} {y:g}" for x, y in rest)

    @property
    def hits(self) -> Iterator[tuple[float, float, float, str]]:
        """The areas that show values: their left end, their width, the place of their x, and the text."""
        texts: dict[float, list[str]] = {}
        for line in self.lines:
            for x, y in zip(line.x, line.y, strict=True):
                texts.setdefault(x, []).append(f"{line.label}: {format_number(y)}")
        places = {self.x(x): f"{self.x_label} {format_number(x)}\n" + "\n".join(texts[x]) for x in sorted(texts)}
        middles = [(left + right) / 2 for left, right in pairwise(places)]
        edges = [self.left, *middles, self.right]
        for (left, right), (place, text) in zip(pairwise(edges), places.items(), strict=True):
            yield left, right - left, place, text

    @property
    def legend(self) -> list[tuple[str, str, bool]]:
        """Name and colour of each group of lines, and whether it shows dots alone."""
        shown = [line for line in self.lines if not line.hidden]
        groups = {line.group or line.label: (line.colour, not line.joined) for line in shown}
        return [(group, *rest) for group, rest in groups.items()]


@dataclass(frozen=True, kw_only=True)
class Group:
    """Points of one colour; `name` is empty where there is one group only."""

    name: str
    colour: str
    x: Sequence[float]
    y: Sequence[float]


@dataclass(frozen=True, kw_only=True)
class Scatter(Plot):
    """Groups of points; at least one point is needed."""

    title: str
    x_label: str
    y_label: str
    groups: Sequence[Group]

    @cached_property
    def x_range(self) -> tuple[float, float]:
        """The range of all x."""
        return _widened(value for group in self.groups for value in group.x)

    @cached_property
    def y_range(self) -> tuple[float, float]:
        """The range of all y."""
        return _widened(value for group in self.groups for value in group.y)

    def points(self, group: Group) -> list[tuple[float, float]]:
        """Return the places of the points of a group."""
        return [(self.x(x), self.y(y)) for x, y in zip(group.x, group.y, strict=True)]


def _widened(values: Iterator[float]) -> tuple[float, float]:
    """Return the range of `values`, made wider if it is empty."""
    found = list(values)
    low, high = min(found), max(found)
    if low < high:
        return low, high
    margin = abs(low) / 10 or 1.0
    return low - margin, high + margin


def _ticks(limits: tuple[float, float], most: int, integer: bool) -> list[tuple[float, str]]:
    low, high = limits
    locator = MaxNLocator(nbins=most, steps=[1, 2, 2.5, 5, 10], integer=integer)
    ticks = [float(tick) for tick in locator.tick_values(low, high) if low <= tick <= high]
    return [(tick, format_number(tick)) for tick in ticks]


def format_number(value: float) -> str:
    """Return a number with up to four significant digits, and all digits of a whole number."""
    rounded = float(f"{value:.4g}")
    return f"{int(value)}" if value == int(value) else f"{int(rounded)}" if abs(rounded) >= 1000 else f"{rounded:g}"
