"""Copying a run directory between machines that share no file system."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

from aldvae.runs.directory import LOCK
from aldvae.utils.files import write_atomically

# The content of each changed file by its name; None for a deleted file.
Changes = Mapping[str, bytes | None]


class DirectorySync:
    """Finds what changed in a directory since the last call."""

    def __init__(self, directory: Path, files: Changes) -> None:
        """Write `files`, those of the other machine, into `directory`."""
        self.directory = directory
        directory.mkdir(parents=True, exist_ok=True)
        apply_changes(directory, files)
        self._previous = dict(_states(directory))

    def changes(self) -> dict[str, bytes | None]:
        """Return the files that were added, changed or deleted since the last call."""
        current = dict(_states(self.directory))
        changed = [name for name, state in current.items() if self._previous.get(name) != state]
        deleted = set(self._previous) - set(current)
        self._previous = current
        return {**{name: (self.directory / name).read_bytes() for name in changed}, **dict.fromkeys(deleted)}


def read_files(directory: Path) -> dict[str, bytes]:
    """Return the content of all files of a directory, empty if there is no such directory."""
    return {name: (directory / name).read_bytes() for name, _ in _states(directory)}


def apply_changes(directory: Path, changes: Changes) -> None:
    """Make `changes` in `directory`; ``summary.json``, which marks a run as finished, is written last."""
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
    """Unpack an archive of `pack` into `directory`; return the path of its file or folder."""
    with tarfile.open(fileobj=io.BytesIO(archive)) as tar:
        name = tar.getnames()[0]
        tar.extractall(directory, filter="data")
    return directory / name
