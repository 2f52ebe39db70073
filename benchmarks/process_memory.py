"""How much memory another process takes."""

from __future__ import annotations

import re
from pathlib import Path


def process_memory(pid: int, kind: str) -> float:
    """Return the memory of the process `pid` in MB; 0 if it has ended.

    `kind` is a field of ``/proc/PID/status``: ``VmRSS`` is all that is resident, ``RssAnon`` leaves out pages of files.
    """
    try:
        match = re.search(rf"{kind}:\s+(\d+) kB", Path(f"/proc/{pid}/status").read_text())
    except (FileNotFoundError, ProcessLookupError):
        return 0.0
    return int(match[1]) / 1024 if match else 0.0
