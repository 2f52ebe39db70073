"""What counts as good: a size whose metric is within the noise of the best size's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Criterion:
    """One metric by size: its `means` over seeds and the standard `errors` of these means, in the metric's unit."""

    means: Mapping[int, float]
    errors: Mapping[int, float]

    @property
    def best(self) -> int:
        """The size with the lowest mean; the smallest of several."""
        return min(sorted(self.means), key=lambda size: self.means[size])

    @property
    def limit(self) -> float:
        """The highest mean that counts as good: the best mean plus its standard error."""
        return self.means[self.best] + self.errors[self.best]

    @property
    def good(self) -> list[int]:
        """The sizes that are as good as the best, smallest first; at least one."""
        return [size for size in sorted(self.means) if self.means[size] <= self.limit]
