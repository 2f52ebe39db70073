"""A setting is declared once: as a field of a dataclass, and with it as an option of the command line."""

from __future__ import annotations

from dataclasses import MISSING, Field, field, fields
from typing import Any


def setting(panel: str, text: str, default: Any = MISSING) -> Any:
    """Declare a field that is also an option: its `panel` in ``--help`` and its help `text`."""
    return field(default=default, metadata={"panel": panel, "help": text})


def settings(declared: type) -> list[Field[Any]]:
    """Return the fields of `declared` that are options of the command line."""
    return [f for f in fields(declared) if "help" in f.metadata]


def flag(name: str, negative: bool = False) -> str:
    """Return the option of a setting: ``init_dim`` is ``--init-dim``, ``stop`` negated is ``--no-stop``."""
    return f"--{'no-' if negative else ''}{name.replace('_', '-')}"
