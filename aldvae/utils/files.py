"""Writing files: atomically, so that no reader sees a partial file, and with one format for figures."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock

from aldvae.utils.errors import ConfigError

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def write_atomically(path: Path, content: bytes | str) -> None:
    """Write `content` to a temporary file beside `path`, then rename it. Creates missing folders.

    Raises `OSError` with the name of `path` if it cannot be written.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    descriptor, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)
        Path(name).replace(path)
    except BaseException as error:
        Path(name).unlink(missing_ok=True)
        if isinstance(error, OSError):
            # A full disk is reported without a name.
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def write_cached(path: Path, content: bytes) -> None:
    """Write a cache file with `write_atomically`. Raises `ConfigError` if it cannot be written."""
    try:
        write_atomically(path, content)
    except OSError as error:
        raise ConfigError("cache_dir", f"{path} cannot be written: {error.strerror or error}") from error


@contextmanager
def cache_lock(path: Path) -> Iterator[None]:
    """Let only one process at a time create the cache file `path`. Raises `ConfigError` if it cannot be written."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(path.with_name(f".{path.name}.lock"))
        lock.acquire()
    except OSError as error:
        raise ConfigError("cache_dir", f"{path} cannot be written: {error.strerror or error}") from error
    try:
        yield
    finally:
        lock.release()


def write_figure(figure: Figure, path: Path, dpi: int = 130) -> Path:
    """Write `figure` atomically in the format of `path`'s suffix and return `path`."""
    content = io.BytesIO()
    # A PDF without a creation date is byte-identical for equal results.
    metadata = {"CreationDate": None} if path.suffix == ".pdf" else {}
    figure.savefig(content, format=path.suffix[1:], dpi=dpi, metadata=metadata)
    write_atomically(path, content.getvalue())
    return path
