"""Adaptive runs on the same data from the same size that are set otherwise: what each difference changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import pandas as pd

from aldvae.analysis.series import Series, words
from aldvae.analysis.statistics import mean
from aldvae.metrics.table import HEADLINE


def variants(series: Iterable[Series]) -> list[dict[str, Series]]:
    """Group the adaptive series by dataset and initial size; leave out groups of one.

    In a group, each goes by its rule and by the settings that not all of the group share.
    """
    groups: dict[Any, list[Series]] = {}
    for one in series:
        if one.config.kind == "adaptive" and one.config.stop:
            groups.setdefault((one.config.dataset, one.config.source, one.config.init_dim), []).append(one)
    return [_named(group) for group in groups.values() if len(group) > 1]


def _named(group: Sequence[Series]) -> dict[str, Series]:
    told = [words(one.config) for one in group]
    shared = set(told[0]).intersection(*told)
    parts = [
        [f"rule {one.config.rule}", *(word for word in mine if word not in shared)]
        for one, mine in zip(group, told, strict=True)
    ]
    # Those that differ least from what all share come first.
    order = sorted(range(len(group)), key=lambda n: (len(parts[n]), parts[n]))
    return {", ".join(parts[n]): group[n] for n in order}


def variants_table(series: Iterable[Series]) -> pd.DataFrame:
    """Return a row for each variant: sizes found (in brackets: reached, not found), epochs of the stop, final metrics.

    Final metrics are means over seeds.
    """
    rows = []
    for group in variants(series):
        for name, one in group.items():
            stops = ["-" if epoch is None else str(epoch) for epoch in one.stops]
            row = {"dataset": one.config.dataset, "init_dim": one.config.init_dim, "variant": name, "sizes": one.told}
            row |= {"stop_epochs": " ".join(stops)}
            rows.append(row | {metric: mean(one.final(metric)) for metric in HEADLINE})
    return pd.DataFrame(rows)
