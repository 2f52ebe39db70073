"""How large should the latent space of a variational autoencoder be? Found in one training run.

`find_size` finds the latent size that data need. `Compressor` adds adaptive compression to your own training loop,
`remove_neurons` and `consolidate` are surgery alone. `load` reads the model a run left; `encode`, `reconstruct` and
`sample` use it. `aldvae.integrations` has callbacks for Lightning, pythae and scvi-tools.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aldvae.cli.find_size import FoundSize, find_size
    from aldvae.compression.compressor import Compressor
    from aldvae.compression.consolidation import consolidate
    from aldvae.compression.information import Directions
    from aldvae.compression.principal_directions import LatentStatistics
    from aldvae.compression.rules.base import Decision, Rule
    from aldvae.compression.rules.consolidate import ConsolidatingRule
    from aldvae.compression.rules.robust import RobustRule
    from aldvae.compression.rules.slopes import AuthorsRule, PaperRule
    from aldvae.compression.slots import Head, Reader
    from aldvae.compression.steps import Step
    from aldvae.compression.surgery import remove_neurons
    from aldvae.compression.units import Units
    from aldvae.models.serialization import load
    from aldvae.models.use import encode, reconstruct, sample
    from aldvae.utils.errors import AldvaeError, ArgumentError, ConfigError

__version__ = "0.2.0"

__all__ = [
    "AldvaeError",
    "ArgumentError",
    "AuthorsRule",
    "Compressor",
    "ConfigError",
    "ConsolidatingRule",
    "Decision",
    "Directions",
    "FoundSize",
    "Head",
    "LatentStatistics",
    "PaperRule",
    "Reader",
    "RobustRule",
    "Rule",
    "Step",
    "Units",
    "consolidate",
    "encode",
    "find_size",
    "load",
    "reconstruct",
    "remove_neurons",
    "sample",
]

_HOME = {
    "AldvaeError": "aldvae.utils.errors",
    "ArgumentError": "aldvae.utils.errors",
    "AuthorsRule": "aldvae.compression.rules.slopes",
    "Compressor": "aldvae.compression.compressor",
    "ConfigError": "aldvae.utils.errors",
    "ConsolidatingRule": "aldvae.compression.rules.consolidate",
    "Decision": "aldvae.compression.rules.base",
    "Directions": "aldvae.compression.information",
    "FoundSize": "aldvae.cli.find_size",
    "Head": "aldvae.compression.slots",
    "LatentStatistics": "aldvae.compression.principal_directions",
    "PaperRule": "aldvae.compression.rules.slopes",
    "Reader": "aldvae.compression.slots",
    "RobustRule": "aldvae.compression.rules.robust",
    "Rule": "aldvae.compression.rules.base",
    "Step": "aldvae.compression.steps",
    "Units": "aldvae.compression.units",
    "consolidate": "aldvae.compression.consolidation",
    "encode": "aldvae.models.use",
    "find_size": "aldvae.cli.find_size",
    "load": "aldvae.models.serialization",
    "reconstruct": "aldvae.models.use",
    "remove_neurons": "aldvae.compression.surgery",
    "sample": "aldvae.models.use",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `aldvae --help` must not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'aldvae' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
