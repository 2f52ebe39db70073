"""What `Compressor` checks before training starts."""

from __future__ import annotations

from aldvae.compression.consolidation import check_rewritable
from aldvae.compression.resizing import Resizable
from aldvae.compression.rules.base import AnyRule
from aldvae.compression.watch import Scale
from aldvae.utils.errors import ArgumentError


def check_rule(rule: AnyRule, select: str, model: Resizable, *, stop: bool) -> None:
    """Raise `ArgumentError` for an argument of `Compressor` that `rule` declares not to support."""
    name = type(rule).__name__
    if select != rule.default_select and not rule.supports_any_select:
        raise ArgumentError("select", f"must be {rule.default_select} with {name}, not {select}")
    if not stop and not rule.supports_no_stop:
        raise ArgumentError("stop", f"must be True with {name}, which removes nothing after its stop")
    if rule.can_undo and not model.optimizers:
        raise ArgumentError("optimizer", f"must be given with {name}, which may undo a removal")
    if rule.can_undo and model.freezes:
        raise ArgumentError("freeze", f"must be False with {name}: a removal of frozen layers cannot be undone")
    if consolidates(rule):
        if model.freezes:
            raise ArgumentError("freeze", f"must be False with {name}: dimensions that it rewrites must go on training")
        check_rewritable(model.space)


def consolidates(rule: AnyRule) -> bool:
    """Return whether `rule` consolidates; one that does not inherit from `Rule` may be older than consolidation."""
    return bool(getattr(rule, "consolidates", False))


def check_scale(rule: AnyRule, scale: Scale) -> None:
    """Raise `ArgumentError` for a scale of the posterior that `rule` would have to rewrite and cannot."""
    if consolidates(rule) and scale not in ("log_var", "log_std"):
        problem = f"must be log_var or log_std with {type(rule).__name__}, which rewrites it; use RobustRule"
        raise ArgumentError("scale", problem)
