"""What a run needs before its first epoch: data, features and a device, shared by the runs of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeVar, cast

import torch

from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Dataset
from aldvae.data.load import load_dataset
from aldvae.metrics.evaluation import check_samples
from aldvae.metrics.features import FeatureConfig, Features, load_features
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
