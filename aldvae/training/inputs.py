"""What a run needs before its first epoch: data, features and a device, shared by the runs of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import torch

from aldvae.config.execution import Execution
from aldvae.config.rules import arguments_as_options
from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Dataset, Samples
from aldvae.data.load import load_dataset
from aldvae.metrics.evaluation import check_samples
from aldvae.metrics.features import FeatureConfig, Features, load_features
from aldvae.models.build import build_vae
from aldvae.utils.devices import pick_device
from aldvae.utils.errors import ConfigError

T = TypeVar("T")


class InputCache:
    """Keeps the data and the features of the last run for the next run of this process."""

    def __init__(self) -> None:
        """Start empty."""
        self._entries: dict[str, tuple[object, object]] = {}

    def get_or_load(self, name: str, key: object, load: Callable[[], T]) -> T:
        """Return the entry `name` if it was stored under `key`; else replace it with what `load` returns."""
        if name not in self._entries or self._entries[name][0] != key:
            # Frees the old entry first: two datasets may not fit into memory.
            self._entries.pop(name, None)
            self._entries[name] = (key, load())
        return cast(T, self._entries[name][1])


@dataclass(frozen=True)
class RunInputs:
    """The inputs that runs on the same data share within a process."""

    data: Dataset
    features: Features | None
    device: torch.device

    @property
    def fingerprints(self) -> dict[str, str]:
        """Identifiers of data and features: equal for equal content."""
        features = self.features.identity if self.features is not None else "none"
        return {"data": self.data.fingerprint, "features": features}

    def describe(self, config: RunConfig) -> list[str]:
        """Return lines that say what the run trains on, and why it has no Silhouette score if it has none."""
        train, validation = self.data.train, self.data.validation
        steps = -(-len(train) // config.training.batch_size)
        parts = [
            f"{len(train) + len(validation):,} {train.kind}: {len(train):,} to train on, {len(validation):,} held out",
            *(f"{count} behind {what}" for what, count in _metric_samples(config).items()),
            f"{config.training.epochs} epochs of {steps:,} step{'s' if steps > 1 else ''}",
        ]
        own = config.data.source is not None
        options = " (options: --validation, --fid-samples, --silhouette-samples, --epochs)" if own else ""
        lines = ["; ".join(parts) + options]
        if config.data.clusters is None:
            lines.append(
                f"no Silhouette score, since {_why_no_clusters(train)}; --clusters K computes it for K clusters"
            )
        return lines


def _metric_samples(config: RunConfig) -> dict[str, int]:
    metrics = config.metrics
    counts = {} if metrics.fid_features == "none" else {"each Fréchet distance": metrics.fid_samples}
    return counts if config.data.clusters is None else {**counts, "the Silhouette score": metrics.silhouette_samples}


def _why_no_clusters(samples: Samples) -> str:
    if samples.labels is None:
        return "the data have no labels"
    n_classes = len(samples.classes)
    return "there is one class only" if n_classes == 1 else f"{n_classes} classes are too many for so few samples"


def load_inputs(config: RunConfig, execution: Execution, cache: InputCache) -> RunInputs:
    """Load the inputs of a run; raises `ConfigError` if data, weights or device are unavailable."""
    device = pick_device(execution.device)
    data = load_data(config, execution, cache)
    _check_data(config, data)
    return RunInputs(data, load_run_features(config, execution, data, device, cache), device)


def _check_data(config: RunConfig, data: Dataset) -> None:
    check_samples(config, data.validation)
    if data.train.is_vectors and config.model.likelihood == "bernoulli":
        raise ConfigError("likelihood", "bernoulli is for pixels in [0, 1], not for vectors; use gaussian")
    if data.train.is_vectors and config.model.standardise:
        raise ConfigError("standardise", "is for images and video; vectors always are, column by column; remove it")
    # Without memory or random numbers, to find a network that does not suit the samples before a directory is made.
    with torch.device("meta"), arguments_as_options():
        build_vae(data.shape, config.model.init_dim, **config.network_settings)


def load_data(config: RunConfig, execution: Execution, cache: InputCache) -> Dataset:
    """Return the data of a run; raises `ConfigError` as `load_dataset` does."""
    load = partial(
        load_dataset,
        config.data.dataset,
        validation=config.data.validation,
        limit=config.data.limit,
        data_dir=execution.data_directory,
        cache_dir=execution.cache_directory,
        own_data=execution.own_data,
        resize=config.data.resize,
    )
    return cache.get_or_load("data", (config.data.source, load.args, load.keywords), load)


def load_run_features(
    config: RunConfig, execution: Execution, data: Dataset, device: torch.device, cache: InputCache
) -> Features | None:
    """Return the features for a run's Fréchet distances, None if it has none.

    Raises `ConfigError` as `load_features` does, and for Inception weights that the run does not use.
    """
    if execution.inception_weights is not None and config.metrics.fid_features != "inception":
        problem = f"has no effect with --fid-features {config.metrics.fid_features}; remove it"
        raise ConfigError("inception_weights", problem)
    request = FeatureConfig(
        execution.cache_directory, device, execution.inception_weights, config.metrics.fid_precision
    )
    key = (config.metrics.fid_features, data.fingerprint, request)
    return cache.get_or_load("features", key, lambda: load_features(config.metrics.fid_features, data, request))
