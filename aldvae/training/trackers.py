"""The trackers that a run is logged to; each is imported only where it is asked for."""

from __future__ import annotations

from pathlib import Path

from aldvae.config.execution import Execution
from aldvae.training.callbacks import Callback


def with_loggers(callback: Callback, execution: Execution, path: Path) -> Callback:
    """Return `callback`, or the loggers that `execution` asks for, which forward to it.

    Raises `ConfigError` naming the option whose tracker is not installed.
    """
    if execution.tensorboard:
        from aldvae.training.tensorboard import TensorBoard

        callback = TensorBoard(callback, path)
    if execution.wandb:
        from aldvae.training.wandb import WandB

        callback = WandB(callback, path)
    if execution.mlflow:
        from aldvae.training.mlflow import MLflow

        callback = MLflow(callback, path)
    return callback
