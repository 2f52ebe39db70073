"""Grid searches among the runs: models of several fixed sizes under the same settings."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from aldvae.config import MEASUREMENT, RunConfig
from aldvae.results import Result
from aldvae.series import Series, model_key, variant

# What is measured changes no model. Of it, only what is behind the Fréchet distances changes what a grid answers.
_MEASURED = ("clusters", *MEASUREMENT)
_UNSEEN = tuple(name for name in _MEASURED if not name.startswith("fid_"))


@dataclass(frozen=True, eq=False)
class Grid:
    """Models of two fixed sizes or more, smallest first, each with some seeds; all else that matters is equal."""

    points: tuple[Series, ...]

    @property
    def config(self) -> RunConfig:
        """The settings of the first run; those that do not matter may differ in others."""
        return self.points[0].config

    @property
    def settings(self) -> str:
        """What is set otherwise than the protocol says, in words."""
        return variant(self.config, _UNSEEN)

    @property
    def sizes(self) -> list[int]:
        """The sizes, smallest first."""
        return [point.config.init_dim for point in self.points]

    @cached_property
    def values(self) -> dict[str, dict[int, list[float]]]:
        """Values after the last epoch by metric, size and seed.

        ``loss`` is `recon_loss` + `beta` * `kl`, in nats per sample: with `beta` 1 the negative ELBO. ``fid_recon``
        and ``fid_gen`` are left out where they were not measured.
        """
        distances = {name: self._final(name) for name in ("fid_recon", "fid_gen")}
        recon_loss, kl = self._final("recon_loss"), self._final("kl")
        loss = {
            size: [r + self.config.beta * k for r, k in zip(recon_loss[size], kl[size], strict=True)]
            for size in self.sizes
        }
        return {"loss": loss} | {name: values for name, values in distances.items() if all(values.values())}

    def _final(self, name: str) -> dict[int, list[float]]:
        return {point.config.init_dim: point.final(name) for point in self.points}

    def fits(self, one: Series) -> bool:
        """Whether `one` are adaptive runs that look for the size of these models, trained for as many epochs."""
        wanted = model_key(self.config, *_MEASURED)
        return one.config.kind == "adaptive" and one.config.stop and model_key(one.config, *_MEASURED) == wanted


def grids(series: Iterable[Series]) -> list[Grid]:
    """Return the grid searches among `series`, in the order they come.

    Runs of one grid may differ in settings of metrics that change neither the models nor their Fréchet distances
    (`metrics_every`, those of the Silhouette score); the same model measured twice counts once. A size with less than
    half the seeds of that with the most, or a single one where others have more, is left out: it is a model trained to
    match a size found, or a grid that is not yet finished.
    """
    groups: dict[Any, dict[int, dict[int, Result]]] = {}
    for one in series:
        if one.config.kind == "fixed":
            sizes = groups.setdefault(model_key(one.config, *_UNSEEN), {})
            seeds = sizes.setdefault(one.config.init_dim, {})
            seeds.update((result.config.seed, result) for result in one.results)
    found = [_points(sizes) for sizes in groups.values()]
    return [Grid(points) for points in found if len(points) > 1]


def _points(sizes: dict[int, dict[int, Result]]) -> tuple[Series, ...]:
    most = max(map(len, sizes.values()))
    least = max(min(2, most), (most + 1) // 2)
    kept = sorted(size for size, seeds in sizes.items() if len(seeds) >= least)
    return tuple(Series(tuple(sizes[size][seed] for seed in sorted(sizes[size]))) for size in kept)
