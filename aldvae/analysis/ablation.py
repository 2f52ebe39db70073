"""Ablations: adaptive runs on the same data from the same size, and what each difference in settings changes."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import pandas as pd

from aldvae.analysis.series import GroupKey, Series, differences
from aldvae.analysis.statistics import mean
from aldvae.metrics.table import HEADLINE


def find_ablations(all_series: Iterable[Series]) -> list[dict[str, Series]]:
    """Group the series that find a size by data and initial size; groups of one are left out.

    In a group, the name of a series is its rule and the settings that not all of the group share.
    """
    groups: dict[GroupKey, list[Series]] = {}
    for series in all_series:
        if series.finds_size:
            key = (series.config.data.dataset, series.config.data.source, series.config.model.init_dim)
            groups.setdefault(key, []).append(series)
    return [_named(group) for group in groups.values() if len(group) > 1]


def _named(group: Sequence[Series]) -> dict[str, Series]:
    settings = [differences(series.config) for series in group]
    shared = set(settings[0]).intersection(*settings)
    parts = [
        [f"rule {series.config.rule}", *(setting for setting in own if setting not in shared)]
        for series, own in zip(group, settings, strict=True)
    ]
    # Fewest differences first.
    order = sorted(range(len(group)), key=lambda n: (len(parts[n]), parts[n]))
    return {", ".join(parts[n]): group[n] for n in order}


def ablation_table(all_series: Iterable[Series]) -> pd.DataFrame:
    """Return a row for each series of each ablation: final sizes, epochs of the stop, final metrics.

    Sizes are in brackets where the rule did not stop. Metrics are means over seeds.
    """
    rows = []
    for group in find_ablations(all_series):
        for name, series in group.items():
            row: dict[str, object] = {"dataset": series.config.data.dataset, "init_dim": series.config.model.init_dim}
            row |= {"variant": name, "sizes": series.sizes_text}
            row["stop_epochs"] = " ".join("-" if epoch is None else str(epoch) for epoch in series.stop_epochs)
            rows.append(row | {metric: mean(series.final(metric)) for metric in HEADLINE})
    return pd.DataFrame(rows)
