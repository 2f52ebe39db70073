"""How large should the latent space of a variational autoencoder be? Found in one training run.

`Compressor` adds adaptive compression to your own training loop, `remove_neurons` is the surgery alone, and `load`
reads the model a run left.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from aldvae.compression.compressor import Compressor, Step
    from aldvae.compression.pruning import remove_neurons
    from aldvae.compression.robust import RobustRule
    from aldvae.compression.rules import AuthorsRule, Decision, PaperRule
    from aldvae.errors import AldvaeError, ConfigError
    from aldvae.models.storage import load

__version__ = "0.1.0"

__all__ = [
    "AldvaeError",
    "AuthorsRule",
    "Compressor",
    "ConfigError",
    "Decision",
    "PaperRule",
    "RobustRule",
    "Step",
    "load",
    "remove_neurons",
]

_HOME = {
    "AldvaeError": "aldvae.errors",
    "AuthorsRule": "aldvae.compression.rules",
    "Compressor": "aldvae.compression.compressor",
    "ConfigError": "aldvae.errors",
    "Decision": "aldvae.compression.rules",
    "PaperRule": "aldvae.compression.rules",
    "RobustRule": "aldvae.compression.robust",
    "Step": "aldvae.compression.compressor",
    "load": "aldvae.models.storage",
    "remove_neurons": "aldvae.compression.pruning",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first used: `aldvae --help` must not wait for torch."""
    if name not in _HOME:
        raise AttributeError(f"module 'aldvae' has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)
