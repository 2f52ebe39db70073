"""How and where runs are executed; nothing here changes what a run is."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

import platformdirs

from aldvae.errors import ConfigError
from aldvae.settings import setting


@dataclass(frozen=True, kw_only=True)
class Execution:
    """How and where a run is executed; none of it is part of what the run is.

    `own_data` is the place of the user's own data, named with ``--dataset``.
    """

    own_data: Path | None = None
    data_dir: Path | None = setting("Execution", "Where datasets lie or are downloaded to (or ALDVAE_DATA_DIR).", None)
    results_dir: Path = setting("Execution", "Where run directories are made.", Path("runs"))
    cache_dir: Path | None = setting("Execution", "Where computed things are kept (or ALDVAE_CACHE_DIR).", None)
    inception_weights: Path | None = setting("Execution", "A file of pytorch-fid's Inception weights.", None)
    device: str = setting("Execution", "auto, cpu, cuda, cuda:N or mps.", "auto")
    threads: int | None = setting(
        "Execution", "CPU threads; without it 1 for a small mlp, else as torch chooses.", None
    )

    def __post_init__(self) -> None:
        """Refuse a number of threads that makes no sense."""
        if self.threads is not None and not 1 <= self.threads <= 1024:
            raise ConfigError("threads", f"must be 1 to 1024, not {self.threads}")

    @property
    def cache_directory(self) -> Path:
        """`cache_dir`, or the environment's, or the system's for this user."""
        named = os.environ.get("ALDVAE_CACHE_DIR")
        return self.cache_dir or Path(named or platformdirs.user_cache_dir("aldvae"))

    @property
    def data_directory(self) -> Path | None:
        """`data_dir`, or the environment's; None where neither names one."""
        named = os.environ.get("ALDVAE_DATA_DIR")
        return self.data_dir or (Path(named) if named else None)
