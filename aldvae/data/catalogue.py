"""The catalogue of built-in datasets: a table of them, where each is stored, and functions that load them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path

from aldvae.data.dataset import Samples
from aldvae.data.sources import SOURCES, Source
from aldvae.utils.errors import unknown_name


def source_folder(source: Source, data_dir: Path | None, cache_dir: Path) -> Path | None:
    """Return the folder where `source` is stored or would be downloaded to; None for an embedded dataset."""
    if source.folder is None:
        return None
    return (data_dir or cache_dir / "data") / source.folder


def _is_present(source: Source, data_dir: Path | None, cache_dir: Path) -> bool:
    folder = source_folder(source, data_dir, cache_dir)
    return folder is None or (folder.is_dir() and any(folder.iterdir()))


def dataset_table(data_dir: Path | None, cache_dir: Path, columns: Mapping[str, Mapping[str, str]]) -> str:
    """Return a table of all datasets as text: samples, shape, the `columns` and the location of each.

    `columns` maps the title of a column to a mapping from dataset to text.
    """
    rows = [("dataset", "samples", "shape", *columns, "where")]
    for source in SOURCES.values():
        shape = " x ".join(map(str, source.shape))
        more = [texts[source.name] for texts in columns.values()]
        rows.append((source.name, f"{source.count:,}", shape, *more, _location(source, data_dir, cache_dir)))
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)) for row in rows]
    return "\n".join(line.rstrip() for line in lines)


def _location(source: Source, data_dir: Path | None, cache_dir: Path) -> str:
    folder = source_folder(source, data_dir, cache_dir)
    if folder is None:
        return "embedded in scikit-learn"
    if _is_present(source, data_dir, cache_dir):
        return str(folder)
    if data_dir is not None and not data_dir.exists():
        return f"missing; {data_dir} does not exist"
    return f"missing; would be downloaded to {folder}"


def find_sources(
    names: Sequence[str] | None, data_dir: Path | None, cache_dir: Path
) -> list[tuple[Source, Callable[[], Samples]]]:
    """Return the sources called `names`, each with a function that loads it.

    Without names, returns all sources that are present. Raises `ConfigError` for an unknown name.
    """
    for name in names or ():
        if name not in SOURCES:
            raise unknown_name("dataset", name, list(SOURCES))
    present = [source.name for source in SOURCES.values() if _is_present(source, data_dir, cache_dir)]
    return [(SOURCES[name], partial(SOURCES[name].load, data_dir, cache_dir)) for name in names or present]
