"""The data directory, which has torchvision's layout, and downloads into it."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from aldvae.utils.errors import ConfigError


def data_directory(data_dir: Path | None, cache_dir: Path) -> Path:
    """Return `data_dir`, or without one the folder ``data`` in `cache_dir`, which is created if needed.

    Raises `ConfigError` if `data_dir` does not exist, because a mistyped name should not start a download.
    """
    if data_dir is None:
        directory = cache_dir / "data"
        directory.mkdir(parents=True, exist_ok=True)
        return directory
    if not data_dir.exists():
        raise ConfigError("data_dir", f"{data_dir} does not exist; create it to download data there")
    if not data_dir.is_dir():
        raise ConfigError("data_dir", f"{data_dir} is not a folder; name another")
    return data_dir


def download_into(directory: Path, folder: str, download: Callable[[str], object]) -> None:
    """Call `download` with a temporary directory, then move files that are missing into `directory`/`folder`.

    So no file there is ever partial, and existing files stay. Raises `ConfigError` if the download fails.
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
            f"{directory}: {folder} is missing and could not be downloaded; set --data-dir or ALDVAE_DATA_DIR "
            "to a folder that holds it, or check the network connection and try again",
        ) from error
