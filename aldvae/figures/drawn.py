"""What drawing leaves: figures with names fit for files, and what could not be drawn."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass, field

from matplotlib.figure import Figure

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
