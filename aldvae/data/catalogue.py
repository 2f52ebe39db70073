"""What there is of the datasets known by name, and where."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

from aldvae.config.execution import Execution
from aldvae.config.presets import protocol
from aldvae.data.dataset import Samples
from aldvae.data.sources import SOURCES, Source
from aldvae.utils.errors import unknown_name


def place(source: Source, execution: Execution) -> Path | None:
    """Return the folder in which `source` lies or would lie; None for an embedded one."""
    if source.folder is None:
        return None
    return (execution.data_directory or execution.cache_directory / "data") / source.folder


def _there(source: Source, execution: Execution) -> bool:
    folder = place(source, execution)
    return folder is None or (folder.is_dir() and any(folder.iterdir()))


def listing(execution: Execution) -> str:
    """Return a table of all datasets: samples, shape, classes, network, and whether they are there."""
    rows = [("dataset", "samples", "shape", "classes", "network", "where")]
    for source in SOURCES.values():
        known, folder = protocol(source.name), place(source, execution)
        if folder is None:
            where = "embedded in scikit-learn"
        else:
            given = execution.data_directory
            remedy = f"{given} does not exist" if given and not given.exists() else f"would be downloaded to {folder}"
            where = str(folder) if _there(source, execution) else f"missing; {remedy}"
        shape = " x ".join(map(str, source.shape))
        rows.append((source.name, f"{source.count:,}", shape, str(known.clusters), known.network, where))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def chosen(names: Sequence[str] | None, execution: Execution) -> list[tuple[Source, Callable[[], Samples]]]:
    """Return the sources called `names`, or without names all that are there, each with a call that loads it.

    Raises `ConfigError` for an unknown name.
    """
    for name in names or ():
        if name not in SOURCES:
            raise unknown_name("dataset", name, list(SOURCES))
    there = [source.name for source in SOURCES.values() if _there(source, execution)]
    where = execution.data_directory, execution.cache_directory
    return [(SOURCES[name], partial(SOURCES[name].load, *where)) for name in names or there]
