"""Logging a run to MLflow: to the server or folder in MLFLOW_TRACKING_URI, else where MLflow puts it by default."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import TYPE_CHECKING

from aldvae.training.logger import Logger
from aldvae.utils.errors import ConfigError
from aldvae.utils.files import write_atomically

if TYPE_CHECKING:
    from aldvae.config.run_config import RunConfig

try:
    from mlflow import MlflowClient
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException
except ImportError as error:
    raise ConfigError("mlflow", "needs MLflow; pip install 'aldvae[mlflow]'") from error

# In the run's directory; it lets a resumed run go on in MLflow.
RUN_ID = "mlflow_run_id.txt"


class MLflow(Logger):
    """Logs a run to MLflow: settings, metrics, images, answer.

    The environment variables of MLflow apply. The experiment is MLFLOW_EXPERIMENT_NAME, else ``aldvae``.
    """

    def start(self, config: RunConfig, first_epoch: int) -> None:
        """Begin a run, or go on with the one that this directory began."""
        try:
            self._client = MlflowClient()
            earlier = self.path / RUN_ID
            if first_epoch > 1 and earlier.exists():
                self._id = earlier.read_text()
                self._client.update_run(self._id, status="RUNNING")
                return
            self._id = self._client.create_run(self._experiment(), run_name=config.name).info.run_id
            write_atomically(earlier, self._id)
            params = [Param(name, str(value)) for name, value in config.to_json().items()]
            self._client.log_batch(self._id, params=params)
        except MlflowException as error:
            raise ConfigError("mlflow", f"{' '.join(str(error).split())}; check MLFLOW_TRACKING_URI") from error

    def _experiment(self) -> str:
        name = os.environ.get("MLFLOW_EXPERIMENT_NAME", "aldvae")
        if existing := self._client.get_experiment_by_name(name):
            return str(existing.experiment_id)
        try:
            return str(self._client.create_experiment(name))
        except MlflowException:
            # Another process has created it in the meantime.
            existing = self._client.get_experiment_by_name(name)
            if existing is None:
                raise
            return str(existing.experiment_id)

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        """Log the numbers at step `epoch`."""
        now = int(time.time() * 1000)
        self._client.log_batch(self._id, metrics=[Metric(name, value, now, epoch) for name, value in metrics.items()])

    def finish(self, answer: dict[str, float], images: list[Path]) -> None:
        """Log the images and the answer, and end the run."""
        for file in images:
            self._client.log_artifact(self._id, str(file))
        self.log({f"answer/{name}": value for name, value in answer.items()}, 0)
        self._client.set_terminated(self._id)
