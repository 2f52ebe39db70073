"""The rules by the names they have on the command line."""

from __future__ import annotations

from typing import TypeAlias

from aldvae.compression.rules.consolidate import ConsolidatingRule
from aldvae.compression.rules.robust import RobustRule
from aldvae.compression.rules.slopes import AuthorsRule, PaperRule
from aldvae.utils.errors import ArgumentError, unknown_message

# Each is a `RegisteredRule`; together they tell mypy which settings there are.
BuiltInRule: TypeAlias = PaperRule | RobustRule | ConsolidatingRule
RuleClass: TypeAlias = type[PaperRule] | type[RobustRule] | type[ConsolidatingRule]
RULES: dict[str, RuleClass] = {
    "paper": PaperRule,
    "authors": AuthorsRule,
    "robust": RobustRule,
    "consolidate": ConsolidatingRule,
}


def rule_class(name: str) -> RuleClass:
    """Return the rule called `name` on the command line; raises `ArgumentError` with the nearest name."""
    if name not in RULES:
        raise ArgumentError("rule", unknown_message(name, list(RULES)))
    return RULES[name]


def rule_defaults(name: str) -> dict[str, str | int]:
    """Return the settings of a run whose defaults depend on its rule; raises as `rule_class` does."""
    rule = rule_class(name)
    defaults: dict[str, str | int] = {"select": rule.default_select}
    if not issubclass(rule, ConsolidatingRule):
        defaults["patience"] = rule.patience
    return defaults
