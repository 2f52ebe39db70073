"""Runs as a table in the terminal, as JSON and as CSV."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping, Sequence

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.measure import Measurement
from rich.table import Table

from aldvae.analysis.grid_search import find_grids, yardstick_table
from aldvae.analysis.series import group_by_seed
from aldvae.analysis.tables import text_rows
from aldvae.metrics.table import HEADLINE, METRICS
from aldvae.runs.records import Cell
from aldvae.runs.results import Result

_FINAL = (*HEADLINE, "fid_features", "fid_samples")
FIELDS = (
    *("run", "dataset", "kind", "rule", "init_dim", "seed", "state", "epoch", "epochs"),
    *("latent_dim", "stop_epoch", "stop_latent_dim", *_FINAL, "seconds", "failure"),
)


def record(result: Result) -> dict[str, Cell]:
    """Return a run as one flat record with the `FIELDS`; None for a value that does not exist (yet)."""
    config, last, summary = result.config, result.last, result.summary
    values: dict[str, Cell] = {
        "run": result.path.name,
        "kind": config.kind,
        **{name: config.settings[name] for name in ("dataset", "init_dim", "seed", "epochs")},
        "rule": config.rule,
        "state": result.state,
        "epoch": result.epochs,
        "latent_dim": summary["latent_dim"] if summary else last.get("latent_dim"),
        "stop_epoch": summary["stop_epoch"] if summary else None,
        "stop_latent_dim": summary["stop_latent_dim"] if summary else None,
        **{name: last.get(name) for name in _FINAL},
        "seconds": round(result.seconds, 1),
        "failure": result.failure or None,
    }
    return {name: values[name] for name in FIELDS}


def as_json(results: Iterable[Result]) -> str:
    """Return the records as a JSON list."""
    return json.dumps([record(result) for result in results], indent=2)


def as_csv(results: Iterable[Result]) -> str:
    """Return the records as CSV, without a newline at the end."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(record(result) for result in results)
    return text.getvalue().rstrip("\n")


def print_table(results: Sequence[Result]) -> None:
    """Print a line for each run on standard output, then the reason of each failure, then the yardsticks of grids."""
    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = 240
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    # Columns that do not fit are dropped from the end; --json and --csv hold all of them.
    for heading in _HEADINGS:
        table.add_column(heading, justify="left" if heading in _TEXTS else "right", no_wrap=True)
    for result in results:
        table.add_row(*_cells(record(result)))
    wide = console.options.update(width=10_000)
    while Measurement.get(console, wide, table).maximum > console.width and len(table.columns) > _FEWEST:
        table.columns.pop()
    console.print(table)
    for result in results:
        if result.failure:
            console.print(f"{result.path.name} failed: {result.failure}", markup=False, soft_wrap=True)
    _print_yardsticks(results, console)


def _print_yardsticks(results: Iterable[Result], console: Console) -> None:
    fixed, _ = group_by_seed(result for result in results if result.config.compression is None)
    yardsticks = yardstick_table(find_grids(fixed))
    if yardsticks.empty:
        return
    title = "Yardsticks: the smallest sizes as good as the best"
    table = Table(*yardsticks.columns, title=title, title_justify="left", box=SIMPLE_HEAD, pad_edge=False)
    for row in text_rows(yardsticks):
        table.add_row(*row)
    console.print(table)


_TEXTS = ("dataset", "kind", "state", "features")
# The fields of a record by the headings that they have in the table. Losses and distances, the features of the
# distances, then scores. `active_units` has no direction and is not shown.
_HEADINGS = {
    "dataset": "dataset",
    "kind": "kind",
    "from": "init_dim",
    "seed": "seed",
    "state": "state",
    "epochs": "epochs",
    "size": "latent_dim",
    "stop": "stop_epoch",
    **{name: name for name in HEADLINE if METRICS[name].better == "lower"},
    "features": "fid_features",
    **{name: name for name in HEADLINE if METRICS[name].better == "higher"},
    "seconds": "seconds",
}
_FEWEST = 8


def _cells(record: Mapping[str, Cell]) -> list[str]:
    shown = {**record, "kind": record["rule"] or record["kind"], "epochs": f"{record['epoch']}/{record['epochs']}"}
    cells = [shown[name] for name in _HEADINGS.values()]
    return ["" if cell is None else f"{cell:.5g}" if isinstance(cell, float) else str(cell) for cell in cells]
