"""The rules by the names they have on the command line."""

from __future__ import annotations

from typing import Any

from aldvae.compression.rules.robust import RobustRule
from aldvae.compression.rules.slopes import AuthorsRule, PaperRule
from aldvae.utils.errors import unknown_name

RULES: dict[str, type[PaperRule] | type[RobustRule]] = {
    "paper": PaperRule,
    "authors": AuthorsRule,
    "robust": RobustRule,
}

# What a rule usually comes with, where that is not the paper's.
USUAL: dict[str, dict[str, Any]] = {"robust": {"select": "kl", "patience": RobustRule.patience}}


def rule_class(name: str) -> type[PaperRule] | type[RobustRule]:
    """Return the rule called `name` on the command line; raises `ConfigError` with the nearest name."""
    if name not in RULES:
        raise unknown_name("rule", name, list(RULES))
    return RULES[name]
