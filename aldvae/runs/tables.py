"""The CSV tables of a run, and what a checkpoint holds of them, which does not grow with the number of epochs."""

from __future__ import annotations

import os
import zlib
from pathlib import Path
from typing import TypedDict

from aldvae.utils.files import write_atomically

# A checkpoint holds at most about so many bytes of a table, and of what is before them only their number and checksum.
MOST_BYTES = 16_384


class TableState(TypedDict):
    """A table in a checkpoint: `length` bytes of the file, with the CRC-32 `checksum`, followed by the text `tail`."""

    length: int
    checksum: int
    tail: str


class Table:
    """A table that grows. Its text is in memory, so that a file that has disappeared can be written again."""

    def __init__(self, path: Path, text: str) -> None:
        """Nothing is written yet."""
        self.path = path
        self._parts, self._tail = [text], [text]
        self._length, self._checksum = 0, 0

    @property
    def text(self) -> str:
        """The whole text."""
        self._parts = ["".join(self._parts)]
        return self._parts[0]

    def write(self) -> None:
        """Write the file anew."""
        write_atomically(self.path, self.text)

    def append(self, text: str) -> None:
        """Append `text` and flush; raises `FileNotFoundError`, with the text taken in, if the file has disappeared."""
        self._parts.append(text)
        self._tail.append(text)
        # Without O_CREAT: a file that has disappeared must be written again in full.
        with os.fdopen(os.open(self.path, os.O_WRONLY | os.O_APPEND), "w", encoding="utf-8") as file:
            file.write(text)

    def state(self) -> TableState:
        """Return the table for a checkpoint. The part of the file that it counts on then survives a power cut."""
        tail = "".join(self._tail)
        if len(tail) > MOST_BYTES and self.path.exists():
            with self.path.open("rb") as file:
                os.fsync(file.fileno())
            content = tail.encode()
            self._length += len(content)
            self._checksum = zlib.crc32(content, self._checksum)
            tail = ""
        self._tail = [tail]
        return {"length": self._length, "checksum": self._checksum, "tail": tail}


def restored_text(path: Path, state: TableState | str) -> str | None:
    """Return the text of the table at `path` at the time of a checkpoint; None if its file has lost or changed bytes.

    Checkpoints of version 0.1.0 hold the whole text as their `state`.
    """
    if isinstance(state, str):
        return state
    try:
        with path.open("rb") as file:
            content = file.read(state["length"])
    except FileNotFoundError:
        content = b""
    if len(content) < state["length"] or zlib.crc32(content) != state["checksum"]:
        return None
    return content.decode() + state["tail"]
