"""What `Compressor` checks before training starts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TypeAlias

import torch

from aldvae.compression.consolidation import check_rewritable
from aldvae.compression.rules.base import AnyRule
from aldvae.compression.slots import LatentSpace
from aldvae.utils.errors import ArgumentError

# Attributes that hold the latent size: objects, and the attribute's name.
Sizes: TypeAlias = Sequence[tuple[object, str]]


def check_rule(
    rule: AnyRule, select: str, space: LatentSpace, *, has_optimizer: bool, stop: bool, freeze: bool
) -> None:
    """Raise `ArgumentError` for an argument of `Compressor` that `rule` declares not to support."""
    name = type(rule).__name__
    if select != rule.default_select and not rule.supports_any_select:
        raise ArgumentError("select", f"must be {rule.default_select} with {name}, not {select}")
    if not stop and not rule.supports_no_stop:
        raise ArgumentError("stop", f"must be True with {name}, which removes nothing after its stop")
    if rule.can_undo and not has_optimizer:
        raise ArgumentError("optimizer", f"must be given with {name}, which may undo a removal")
    if rule.can_undo and freeze:
        raise ArgumentError("freeze", f"must be False with {name}: a removal of frozen layers cannot be undone")
    if getattr(rule, "consolidates", False):
        if freeze:
            raise ArgumentError("freeze", f"must be False with {name}: dimensions that it rewrites must go on training")
        check_rewritable(space)


def check_sizes(sizes: Sizes, latent_dim: int) -> Sizes:
    """Return `sizes`; raises `ArgumentError` for an attribute that is not the latent size."""
    for owner, name in sizes:
        value = getattr(owner, name, None)
        if value != latent_dim:
            problem = f"name {type(owner).__name__}.{name}, which is {value}, not the latent size {latent_dim}"
            raise ArgumentError("sizes", f"{problem}; use on_resize for other attributes")
    return tuple(sizes)


def check_distributed(on_resize: Callable[[int], object] | None) -> None:
    """Raise `ArgumentError` in a group of processes if nothing wraps the model anew after a removal.

    The wrapper would go on synchronising the gradients of the old parameters, and not those of the new ones.
    """
    distributed = torch.distributed.is_available() and torch.distributed.is_initialized()
    if distributed and torch.distributed.get_world_size() > 1 and on_resize is None:
        problem = "must be given with several processes: wrap the model in DistributedDataParallel again"
        raise ArgumentError("on_resize", f"{problem}, since the layers get new parameters")
