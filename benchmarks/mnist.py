"""The parts of an adaptive run on MNIST, for benchmarks of each."""

from __future__ import annotations

from typing import NamedTuple

from aldvae.config.execution import Execution
from aldvae.config.resolve import Overrides, resolve
from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Dataset
from aldvae.metrics.evaluation import Evaluator
from aldvae.metrics.features import Features
from aldvae.training.inputs import InputCache, load_data, load_run_features
from aldvae.training.trainer import Trainer
from aldvae.utils.devices import pick_device


class Parts(NamedTuple):
    """The parts of a run with classifier features and 100 initial dimensions, on the CPU."""

    config: RunConfig
    data: Dataset
    features: Features
    trainer: Trainer
    evaluator: Evaluator


def mnist() -> Parts:
    """Load the data in `ALDVAE_DATA_DIR` and build the parts."""
    config = resolve("adaptive", "mnist", Overrides({"fid_features": "classifier"}))
    execution, device = Execution(), pick_device("cpu")
    data = load_data(config, execution, InputCache())
    features = load_run_features(config, execution, data, device, InputCache())
    assert features is not None
    evaluator = Evaluator(config, data.validation, features, execution.cache_directory, device)
    return Parts(config, data, features, Trainer(config, data, device), evaluator)
