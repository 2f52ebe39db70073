"""Rules as the command line sees them: the settings that one takes, and its errors in terms of options."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields

from aldvae.compression.rules.registry import rule_class
from aldvae.compression.rules.slopes import RULE_METRICS
from aldvae.utils.errors import ArgumentError, ConfigError


@contextmanager
def arguments_as_options() -> Iterator[None]:
    """Raise `ConfigError`, which names the option, instead of `ArgumentError`, which names the argument."""
    try:
        yield
    except ArgumentError as error:
        raise ConfigError(error.argument, error.problem) from None


def rule_settings(rule: str) -> set[str]:
    """Return the settings of compression that the rule of this name takes; raises as `rule_class` does."""
    declared = rule_class(rule)
    names = {"rule", *(f.name for f in fields(declared))}
    names |= {f"threshold_{metric}" for metric in RULE_METRICS if "thresholds" in names}
    names |= {"curve", "curve_epochs", "favour", "keep_sizes"}
    supported = {
        "select": declared.supports_any_select,
        "stop": declared.supports_no_stop,
        "shrunk_layers": not (declared.can_undo or declared.consolidates),
    }
    return names | {name for name, supports in supported.items() if supports}
