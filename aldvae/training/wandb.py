"""Logging a run to Weights & Biases, online or offline (WANDB_MODE=offline)."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar

from aldvae.training.logger import Logger
from aldvae.utils.errors import ConfigError

if TYPE_CHECKING:
    from aldvae.config.run_config import RunConfig

try:
    import wandb
except ImportError as error:
    raise ConfigError("wandb", "needs Weights & Biases; pip install 'aldvae[wandb]'") from error


class WandB(Logger):
    """Logs a run to Weights & Biases: settings, metrics, images, answer; its files lie in the run's directory.

    The environment variables of Weights & Biases apply. The project is WANDB_PROJECT, else ``aldvae``.
    """

    # By directory: a run that failed is still open when the same process tries it again.
    _open: ClassVar[dict[Path, wandb.Run]] = {}

    def start(self, config: RunConfig, first_epoch: int) -> None:  # noqa: ARG002
        """Begin a run; a resumed one goes on under its id. It ignores the steps that it has already."""
        earlier = self._earlier_id()
        if failed := self._open.pop(self.path, None):
            failed.finish(exit_code=1)
        try:
            self._run = wandb.init(
                project=os.environ.get("WANDB_PROJECT", "aldvae"),
                id=earlier,
                resume="allow" if earlier else None,
                name=config.name,
                config=config.to_json(),
                dir=str(self.path),
                # Several runs of a stack may be open in one process.
                reinit="create_new",
                settings=wandb.Settings(silent=True, console="off"),
            )
        except wandb.Error as error:
            problem = f"{' '.join(str(error).split())}; set WANDB_MODE=offline to log without a connection"
            raise ConfigError("wandb", problem) from error
        self._open[self.path] = self._run
        # Asked offline, W&B warns.
        if not self._run.offline and (url := self._run.url):
            self.on_message(f"Weights & Biases: {url}")

    def _earlier_id(self) -> str | None:
        """Return the id of the session before, with which the name of its folder ends; None if this is the first."""
        folders = sorted((self.path / "wandb").glob("*run-*-*"), key=lambda folder: folder.stat().st_mtime)
        return folders[-1].name.rpartition("-")[2] if folders else None

    def log(self, metrics: dict[str, float], epoch: int) -> None:
        """Log the numbers at step `epoch`."""
        self._run.log(metrics, step=epoch)

    def finish(self, answer: dict[str, float], images: list[Path]) -> None:
        """Log the images, put the answer into the summary, and end the run."""
        for file in images:
            is_animation = file.suffix == ".gif"
            image = wandb.Video(str(file), format="gif") if is_animation else wandb.Image(str(file))
            self._run.log({file.stem: image})
        self._run.summary.update({f"answer/{name}": value for name, value in answer.items()})
        self._run.finish()
        del self._open[self.path]
