"""Carrying a run directory between machines that share no files."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from aldvae.runs.directory import LOCK
from aldvae.utils.files import write_atomically

# What a file became: its content, or None where it is gone.
Changes = Mapping[str, bytes | None]


class Mirror:
    """Tells what changed in a directory since it was last asked."""

    def __init__(self, directory: Path, content: Changes) -> None:
        """Make `directory` hold `content`, as it lies on the other machine."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        apply(directory, content)
        self._seen = dict(_states(directory))

    def changes(self) -> dict[str, bytes | None]:
        """Return the files that are new, changed or gone since the last call."""
        now = dict(_states(self.directory))
        changed = [name for name, state in now.items() if self._seen.get(name) != state]
        gone = set(self._seen) - set(now)
        self._seen = now
        return {**{name: (self.directory / name).read_bytes() for name in changed}, **dict.fromkeys(gone)}


def content(directory: Path) -> dict[str, bytes | None]:
    """Return all files of a directory, empty where there is none."""
    return {name: (directory / name).read_bytes() for name, _ in _states(directory)}


def apply(directory: Path, changes: Changes) -> None:
    """Make the `changes` in `directory`: the summary, which marks a run as finished, after all other files."""
    for name in sorted(changes, key=lambda name: (name == "summary.json", name)):
        data = changes[name]
        if data is not None:
            write_atomically(directory / name, data)
    for name, data in changes.items():
        if data is None:
            (directory / name).unlink(missing_ok=True)


def _states(directory: Path) -> Iterator[tuple[str, tuple[int, int, int]]]:
    for path in sorted(directory.glob("*")):
        if path.is_file() and path.name != LOCK and not path.name.startswith("."):
            stat = path.stat()
            yield path.name, (stat.st_ino, stat.st_size, stat.st_mtime_ns)


def pack(path: Path) -> bytes:
    """Return a file or folder as one archive."""
    archive = io.BytesIO()
    with tarfile.open(fileobj=archive, mode="w") as tar:
        tar.add(path.resolve(), arcname=path.absolute().name)
    return archive.getvalue()


def unpack(archive: bytes, directory: Path) -> Path:
    """Unpack what `pack` packed into `directory`; return the file or folder."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        name = tar.getnames()[0]
        tar.extractall(directory, filter="data")
    return directory / name
