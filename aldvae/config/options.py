"""A setting is declared once: as a field of a dataclass, and with it as an option of the command line."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import MISSING, Field, field, fields
from typing import Any

# What a setting may hold; None where it is optional and not set.
Value = str | int | float | bool | None


def setting(text: str, default: Any = MISSING, *, shown: str | None = None, added: str | None = None) -> Any:
    """Declare a field that is also an option, with its help `text`; without `default`, presets must give the value.

    The help shows `shown` as the default if presets or rules replace `default`. `added` is the version that introduced
    the setting, None for the first: a later setting needs a `default`, and is stored only where it differs from it, so
    that the files of runs without it stay the same to the byte.
    """
    return field(default=default, metadata={"help": text, "shown": shown, "added": added})


def option_fields(*sections: type) -> Iterator[Field[Any]]:
    """Yield the fields of dataclasses that are options of the command line."""
    return (f for section in sections for f in fields(section) if "help" in f.metadata)


def flag(name: str, negative: bool = False) -> str:
    """Return the option of a setting: ``init_dim`` is ``--init-dim``, ``stop`` negated is ``--no-stop``."""
    return f"--{'no-' if negative else ''}{name.replace('_', '-')}"
