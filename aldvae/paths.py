"""Where things lie when the user does not say."""

import os
from pathlib import Path

import platformdirs


def default_cache_dir() -> Path:
    """Return the folder for downloads and for what can be computed again: `ALDVAE_CACHE_DIR`, or the system's."""
    return Path(os.environ.get("ALDVAE_CACHE_DIR") or platformdirs.user_cache_dir("aldvae"))
