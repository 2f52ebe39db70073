"""The table of metrics: their names, titles, units and directions, for whatever stores, compares or draws them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class Metric:
    """A number that a run measures after an epoch.

    `name` is its column in ``metrics.csv``; `title` is its name in figures. `better` says which direction is better,
    all else being equal; None if neither is. `frechet_of` is set for Fréchet distances alone: the images that are
    compared with the reference images, as an axis names them. A `headline` metric is in every table that compares runs.
    `paper_row` is its row, from the top, in the paper's Figures 2 to 4; None if it has none.
    """

    name: str
    title: str
    unit: str = ""
    better: Literal["lower", "higher"] | None = None
    frechet_of: str = ""
    headline: bool = False
    paper_row: int | None = None

    @property
    def title_with_unit(self) -> str:
        """The title and, in brackets, the unit if there is one."""
        return f"{self.title} ({self.unit})" if self.unit else self.title


_NATS = "nats per sample"
# The columns of metrics.csv, in their order.
_COLUMNS = (
    Metric(name="train_loss", title="Training loss", unit=_NATS, better="lower"),
    Metric(name="recon_loss", title="Reconstruction loss", unit=_NATS, better="lower", headline=True, paper_row=3),
    Metric(name="kl", title="KL divergence", unit=_NATS, better="lower", headline=True),
    Metric(name="silhouette", title="Silhouette score", better="higher", headline=True, paper_row=2),
    Metric(
        name="fid_recon",
        title="Fréchet distance of reconstructions",
        better="lower",
        frechet_of="reconstr.",
        headline=True,
        paper_row=0,
    ),
    Metric(
        name="fid_gen",
        title="Fréchet distance of generations",
        better="lower",
        frechet_of="generations",
        headline=True,
        paper_row=1,
    ),
    Metric(name="active_units", title="Active units", unit="dimensions", headline=True),
    Metric(name="dims_active", title="Active dimensions", unit="dimensions"),
    Metric(name="dims_mixed", title="Mixed dimensions", unit="dimensions"),
    Metric(name="dims_passive", title="Passive dimensions", unit="dimensions"),
    Metric(name="cluster_accuracy", title="Clustering accuracy", better="higher"),
    Metric(name="nmi", title="Normalised mutual information of clusters and classes", better="higher"),
    Metric(name="ari", title="Adjusted Rand index of clusters and classes", better="higher"),
)
# `recon_loss` + `beta` * `kl`: no column, since it follows from two. With `beta` 1 it is the negative ELBO.
LOSS = Metric(name="loss", title="Loss", unit=_NATS, better="lower")

METRICS = {metric.name: metric for metric in _COLUMNS}
HEADLINE = tuple(metric.name for metric in _COLUMNS if metric.headline)
FRECHET = tuple(metric.name for metric in _COLUMNS if metric.frechet_of)
