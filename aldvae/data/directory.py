"""Where datasets lie: a folder in torchvision's own layout, named by the user or kept in the cache."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from aldvae.utils.errors import ConfigError


def data_directory(data_dir: Path | None, cache_dir: Path) -> Path:
    """Return the folder to look in; without one `data_dir`, our own below `cache_dir`, made when it is first needed.

    Raises `ConfigError` where the given one does not exist: a slip of the pen should not start a download.
    """
    if data_dir is None:
        directory = cache_dir / "data"
        directory.mkdir(parents=True, exist_ok=True)
        return directory
    if not data_dir.is_dir():
        problem = "is not a folder" if data_dir.exists() else "does not exist; make it to have data downloaded there"
        raise ConfigError("data_dir", f"{data_dir} {problem}")
    return data_dir


def download_into(directory: Path, folder: str, download: Callable[[str], object]) -> None:
    """Have `download` fill a temporary directory, then move what is missing into `directory`/`folder`.

    So what is there is always complete, and what was there stays. Raises `ConfigError` where it cannot be had.
    """
    try:
        with tempfile.TemporaryDirectory(dir=directory, prefix=".download-") as temporary:
            download(temporary)
            for path in sorted((Path(temporary) / folder).rglob("*")):
                target = directory / path.relative_to(temporary)
                if path.is_file() and not target.exists():
                    target.parent.mkdir(parents=True, exist_ok=True)
                    shutil.move(path, target)
    except (OSError, RuntimeError) as error:
        raise ConfigError(
            "data_dir",
            f"{directory}: {folder} is not there and could not be downloaded; point "
            "--data-dir or ALDVAE_DATA_DIR to a folder that holds it, or try again with a network",
        ) from error
