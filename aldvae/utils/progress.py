"""The progress of a long preparation, on standard error: a bar in a terminal, some lines in a log."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeRemainingColumn
from rich.progress import Progress as Bar

# A log gets a line every so many seconds; shorter work leaves none.
_SECONDS = 20.0


@contextmanager
def progress(what: str, total: int) -> Iterator[Callable[[int], None]]:
    """Show the progress of `what`, such as "decoding photos"; call what is yielded with each number of items done."""
    console = Console(stderr=True, highlight=False, soft_wrap=True)
    columns = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn(), TimeRemainingColumn())
    done, last = 0, time.monotonic()
    with Bar(*columns, console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task(what, total=total)

        def advance(n: int) -> None:
            nonlocal done, last
            done += n
            bar.advance(task, n)
            if not console.is_terminal and time.monotonic() - last >= _SECONDS:
                last = time.monotonic()
                console.print(f"aldvae: {what}, {done:,} of {total:,}", markup=False)

        yield advance
