"""The types of settings that come from plan files and from Python, where the command line has not checked them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import get_args, get_type_hints

from aldvae.config.options import Value, option_fields
from aldvae.config.run_config import SECTIONS
from aldvae.utils.errors import ConfigError, unknown_name

_HINTS = {name: hint for section in SECTIONS for name, hint in get_type_hints(section).items() if name != "panel"}


def check_types(values: Mapping[str, Value]) -> dict[str, Value]:
    """Return `values`, with whole numbers as floats where the setting is a float.

    Raises `ConfigError` for a name that is no setting and for a value of another type.
    """
    options = [setting.name for setting in option_fields(*SECTIONS)]
    for name in values:
        if name not in options:
            raise unknown_name(name, name, options)
    return {name: _typed(name, value) for name, value in values.items()}


def _typed(name: str, value: Value) -> Value:
    allowed = [kind for kind in (bool, int, float, str) if kind in (_HINTS[name], *get_args(_HINTS[name]))]
    if float in allowed and type(value) is int:
        return float(value)
    if type(value) not in allowed:
        raise ConfigError(name, f"is {json.dumps(value, default=str)}, not of type {allowed[0].__name__}")
    return value
