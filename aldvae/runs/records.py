"""The formats of a run's files, shared by `RunDirectory`, which writes them, and `Result`, which reads them back."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from typing import TypedDict

from aldvae.compression.rules.slopes import RULE_METRICS
from aldvae.metrics.table import METRICS
from aldvae.utils.rounding import round_for_csv

# What a cell of a table holds; None if it is empty.
Cell = int | float | str | None

COLUMNS: dict[str, tuple[str, ...]] = {
    "metrics": ("epoch", "latent_dim", *METRICS, "fid_features", "fid_samples"),
    "latent": ("epoch", "neuron", "kl"),
    "directions": ("epoch", "direction", "information", "unique"),
    "decisions": (
        "epoch",
        "latent_dim",
        "action",
        "removed",
        *(f"slope_{metric}" for metric in RULE_METRICS),
        "reason",
    ),
    "times": ("epoch", "train_seconds", "metrics_seconds"),
    "curve": ("latent_dim", "epoch", *METRICS, "fid_features", "fid_samples"),
}
# Tables that only some rules fill, or that are asked for; other runs do not have them.
OPTIONAL_TABLES = ("directions", "curve")
# Their columns of text, whatever they look like.
TEXT_COLUMNS = ("action", "removed", "reason")
# Of latent_space.csv, which is written once, after the last epoch.
LATENT_SPACE = ("component_1", "component_2", "class", "cluster")


class _SummaryOfAllVersions(TypedDict):
    latent_dim: int
    stop_epoch: int | None
    stop_latent_dim: int | None
    epochs: int
    train_seconds: float
    metrics_seconds: float
    final: dict[str, Cell]


class Answer(TypedDict, total=False):
    """How many dimensions carry information, according to the rule; see `Summary`."""

    n_informative: int
    n_range: list[int] | None
    settled_epoch: int | None
    overfit_since: int | None


class CurveSummary(TypedDict, total=False):
    """What the curve says; see `Summary`."""

    smallest_sizes: dict[str, int]
    curve_epochs: int
    curve_seconds: float


class ChosenPrecision(TypedDict, total=False):
    """The precision that was chosen for a run with ``--precision auto``; other runs lack it."""

    precision: str


class Summary(_SummaryOfAllVersions, Answer, CurveSummary, ChosenPrecision, total=False):
    """``summary.json``: the answer of a finished run.

    `latent_dim` is the size of the model that is left. `stop_epoch` and `stop_latent_dim` say where the rule stopped,
    or would have with ``--no-stop``; both are None if it did not, and in a run of fixed size. `final` is the last row
    of ``metrics.csv``, measured again if the last decision changed the model. Runs made by older versions lack the
    keys that are optional here: `rule` and the `reason` of its last decision, None in a run of fixed size, and
    `train_samples`, the number of training samples.

    Only runs whose rule counts the dimensions that carry information have `n_informative`, that number, which may be
    below `latent_dim`; `n_range`, the least and the most that it would be if the limit were twice or half as high; and
    `settled_epoch`, the epoch at which it had settled, None if it had not. Newer ones have `overfit_since`, the epoch
    since which the loss on the validation samples rose again, None if it did not.

    Only runs with a curve have `smallest_sizes`, the smallest size that is good by the loss, by reconstructions, by
    generations and by clusters (see `runs.curve`), and the `curve_epochs` and `curve_seconds` that it took beside those
    of the run. If the run favours one of these, `latent_dim` and `final` are those of that model.

    Only runs with ``--precision auto`` have `precision`, the one that was chosen.
    """

    rule: str | None
    reason: str | None
    train_samples: int


class _SessionOfAllVersions(TypedDict):
    first_epoch: int
    aldvae: str
    commit: str | None
    python: str
    packages: dict[str, str]
    system: str
    processor: str
    device: str
    threads: int


class Session(_SessionOfAllVersions, ChosenPrecision, total=False):
    """One entry of ``provenance.json``: a process that worked on the run from `first_epoch` on.

    It holds versions, code and hardware. `commit` is None for an installed package; `plan` is the plan file that the
    run was part of, absent if there was none; `precision` the one that was chosen, only with ``--precision auto``.
    """

    plan: str


def parse_cell(text: str) -> Cell:
    """Return what a cell of a table holds; None for an empty one."""
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text or None


def format_cell(value: object) -> str:
    """Return the text of a cell: a float with the 8 significant digits that all tables have."""
    return repr(round_for_csv(value)) if isinstance(value, float) else str(value)


def csv_text(rows: Iterable[Iterable[object]]) -> str:
    """Return `rows` as lines of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def csv_rows(text: str) -> list[dict[str, str]]:
    """Return the rows below the header of a CSV; cells beyond the header are dropped, missing ones are empty."""
    reader = csv.DictReader(io.StringIO(text), restval="")
    return [{name: cell for name, cell in row.items() if name is not None} for row in reader]


def json_text(content: object) -> str:
    """Return `content` as indented JSON."""
    return json.dumps(content, indent=2) + "\n"
