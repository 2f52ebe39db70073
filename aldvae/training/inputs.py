"""What a run needs before its first epoch: data, features and a device, shared by the runs of a process."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch

from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Dataset
from aldvae.data.load import load_dataset
from aldvae.metrics.evaluation import check_samples
from aldvae.metrics.features import FeatureConfig, Features, load_features
from aldvae.utils.devices import pick_device
from aldvae.utils.errors import ConfigError


class Shelf:
    """Keeps the data and the features of the last run for the next one in this process."""

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._kept: dict[str, tuple[Any, Any]] = {}

    def take(self, name: str, key: Any, make: Callable[[], Any]) -> Any:
        """Return what is kept as `name` under `key`; else `make` it, and keep it in the place of what was there."""
        if name not in self._kept or self._kept[name][0] != key:
            self._kept.pop(name, None)
            self._kept[name] = (key, make())
        return self._kept[name][1]


@dataclass(frozen=True)
class Prepared:
    """What runs on the same data, in the same process, share."""

    data: Dataset
    features: Features | None
    device: torch.device
    threads: int

    @property
    def inputs(self) -> dict[str, str]:
        """Names for the data and the features, equal for equal ones."""
        features = self.features.identity if self.features is not None else "none"
        return {"data": self.data.fingerprint, "features": features}


def prepare(config: RunConfig, execution: Execution, threads: int, shelf: Shelf) -> Prepared:
    """Load what a run needs; raises `ConfigError` for data, weights and devices that are not to be had."""
    device = pick_device(execution.device)
    data = load_data(config, execution, shelf)
    _check_data(config, data)
    return Prepared(data, load_features_of(config, execution, data, device, shelf), device, threads)


def _check_data(config: RunConfig, data: Dataset) -> None:
    check_samples(config, data.validation)
    if data.train.is_vectors and config.likelihood == "bernoulli":
        raise ConfigError("likelihood", "bernoulli is for pixels in [0, 1], not for vectors; use gaussian")


def load_data(config: RunConfig, execution: Execution, shelf: Shelf) -> Dataset:
    """Return the data of a run; raises `ConfigError` as `load_dataset` does."""
    load = partial(
        load_dataset,
        config.dataset,
        validation=config.validation,
        limit=config.limit,
        data_dir=execution.data_directory,
        cache_dir=execution.cache_directory,
        own_data=execution.own_data,
        resize=config.resize,
    )
    data: Dataset = shelf.take("data", (config.source, load.args, load.keywords), load)
    return data


def load_features_of(
    config: RunConfig, execution: Execution, data: Dataset, device: torch.device, shelf: Shelf
) -> Features | None:
    """Return the features behind a run's Fréchet distances; raises `ConfigError` as `load_features` does."""
    if execution.inception_weights is not None and config.fid_features != "inception":
        raise ConfigError("inception_weights", f"means nothing to --fid-features {config.fid_features}; leave it out")
    request = FeatureConfig(execution.cache_directory, device, execution.inception_weights, config.fid_precision)
    key = (config.fid_features, data.fingerprint, request)
    features: Features | None = shelf.take("features", key, lambda: load_features(config.fid_features, data, request))
    return features
