"""The curve of a run: after its last epoch, a copy of the model goes on down, a few epochs at each size."""

from __future__ import annotations

import copy
import shutil
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

from aldvae.compression.curve import curve_sizes
from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.compression.watch import Posterior
from aldvae.config.run_config import RunConfig
from aldvae.metrics.evaluation import Evaluator, require_finite
from aldvae.models.serialization import SIZES, load, model_bytes, size_file
from aldvae.models.vae import VAE, kl_divergence
from aldvae.runs.curve import smallest_sizes
from aldvae.runs.directory import CURVE_CHECKPOINT, RunDirectory
from aldvae.runs.records import COLUMNS, Cell, CurveSummary, csv_rows, csv_text, parse_cell
from aldvae.runs.tables import TableState
from aldvae.training.callbacks import Callback
from aldvae.training.checkpoint import read_checkpoint, to_bytes
from aldvae.training.inputs import RunInputs
from aldvae.training.trainer import Trainer, TrainerState
from aldvae.utils.errors import DivergedError
from aldvae.utils.rounding import round_for_csv

# Measured on MNIST (docs/curve.md). With one epoch at each size, the loss at half the size found was 2 to 4% above
# that of a model of that size; so it was with two at a third of this learning rate. A rate that falls to 0 gives in few
# epochs what a constant one gives in many.
_FEWEST, _LEARNING_RATE = 2, 3


@dataclass(frozen=True)
class Plan:
    """The `sizes` of a curve, largest first, below that of the model, and the `epochs` of training at each."""

    sizes: tuple[int, ...]
    epochs: int

    @classmethod
    def make(cls, latent_dim: int, epochs: int, curve_epochs: int | None) -> Plan:
        """Return the plan for a model of size `latent_dim` that was trained for `epochs`.

        All sizes together take at most half of these. `curve_epochs` are those at each size; None: as many as that
        allows. Sizes are skipped rather than trained for fewer than two.
        """
        budget, n_sizes = epochs // 2, latent_dim - SMALLEST_DIM
        each = curve_epochs or max(min(_FEWEST, budget), budget // max(1, n_sizes), 1)
        return cls(tuple(curve_sizes(latent_dim, budget // each)), each)

    @property
    def total(self) -> int:
        """The epochs at all sizes together."""
        return len(self.sizes) * self.epochs

    def size(self, epoch: int) -> int:
        """Return the size that is trained in an epoch of the curve, from 1 on."""
        return self.sizes[(epoch - 1) // self.epochs]

    def is_first(self, epoch: int) -> bool:
        """Return whether an epoch of the curve is the first at its size."""
        return (epoch - 1) % self.epochs == 0

    def is_last(self, epoch: int) -> bool:
        """Return whether an epoch of the curve is the last at its size."""
        return epoch % self.epochs == 0


class CurveTrainer(Trainer):
    """Trains a copy of a finished run's model; its epochs count from 1, and its random streams are its own."""

    phase: ClassVar[str] = "curve "

    def __init__(self, config: RunConfig, inputs: RunInputs, plan: Plan, state: TrainerState) -> None:
        """Start from `state`, that of the run's trainer or of an interrupted curve."""
        super().__init__(config, inputs.data, inputs.device)
        self.plan = plan
        # Loading alone would share the optimiser's moments.
        self.load_state_dict(copy.deepcopy(state))

    def kl_weight(self, epoch: int, progress: float) -> float:  # noqa: ARG002 - there is no warm-up
        """Return beta."""
        return self.config.model.beta

    def learning_rate(self, epoch: int, progress: float) -> float:
        """Return the learning rate: at each size it falls from three times that of the run to 0."""
        done = ((epoch - 1) % self.plan.epochs + progress) / self.plan.epochs
        return _LEARNING_RATE * self.config.training.lr * (1 - done)

    def narrow(self, size: int) -> None:
        """Remove the dimensions, or principal directions, with the least information until `size` are left."""
        assert self.compressor is not None
        mu, log_var = self._posterior(self.posterior_samples)
        self.compressor.narrow(size, Posterior(kl_divergence(mu, log_var).mean(0).tolist(), mu, log_var))


@dataclass
class Curve:
    """The curve of one run, drawn into its directory, from where it was interrupted if it was."""

    answer: Trainer
    inputs: RunInputs
    evaluator: Evaluator
    directory: RunDirectory
    callback: Callback

    def __post_init__(self) -> None:
        """Plan the curve, and restore model and tables from its checkpoint if there is one."""
        self.config, self.epoch = self.answer.config, 0
        assert self.config.compression is not None
        self.settings, self.run_epochs = self.config.compression, self.config.training.epochs
        self.plan = Plan.make(self.answer.model.latent_dim, self.run_epochs, self.settings.curve_epochs)
        state = self.answer.state_dict()
        content = self.directory.read(CURVE_CHECKPOINT)
        checkpoint = None if content is None else read_checkpoint(content, self.inputs.device)
        if checkpoint is not None:
            self.epoch, state = checkpoint["epoch"], checkpoint["trainer"]
            # The run's own checkpoint knows no rows of the curve.
            for name, text in checkpoint["tables"].items():
                self.directory.append(name, csv_rows(str(text)))
        self.trainer = CurveTrainer(self.config, self.inputs, self.plan, state)

    def trace(self, final: Mapping[str, Cell]) -> CurveSummary:
        """Draw the curve; return what it says. `final` are the metrics of the run's model, its first point."""
        if self.epoch == 0:
            self._add_point(self.answer.model, {**final, "epoch": self.run_epochs})
        try:
            for epoch in range(self.epoch + 1, self.plan.total + 1):
                self._train(epoch)
        except DivergedError as error:
            self.callback.on_message(f"the curve ends before size {self.trainer.model.latent_dim}: {error}")
        return self._summary()

    def _train(self, epoch: int) -> None:
        """Train for one epoch of the curve; at the last one of a size, measure it."""
        if self.plan.is_first(epoch):
            self.trainer.narrow(self.plan.size(epoch))
        model, total = self.trainer.model, self.run_epochs + epoch
        start = time.perf_counter()
        train_loss = self.trainer.train_epoch(epoch)
        require_finite(total, train_loss=train_loss)
        trained = time.perf_counter()
        if self.plan.is_last(epoch):
            # With the random streams of the run's last epoch, all sizes are measured alike.
            metrics = self.evaluator.evaluate(model, self.run_epochs).rounded().metrics
            self._add_point(model, {"epoch": total, "train_loss": round_for_csv(train_loss), **metrics})
        seconds = {"train_seconds": trained - start, "metrics_seconds": time.perf_counter() - trained}
        self.directory.append("times", [{"epoch": total, **{name: round(value, 4) for name, value in seconds.items()}}])
        self._save_checkpoint(epoch)
        self.callback.on_curve_epoch(epoch, self.plan.total, model.latent_dim)

    def _add_point(self, model: VAE, metrics: Mapping[str, Cell]) -> None:
        """Append a size to ``curve.csv``, and write its model if it may be asked for."""
        features = {"fid_features": self.config.metrics.fid_features, "fid_samples": self.config.metrics.fid_samples}
        row = {**features, **metrics, "latent_dim": model.latent_dim}
        self.directory.append("curve", [{name: value for name, value in row.items() if value is not None}])
        if self.settings.keep_sizes or self.settings.favour is not None:
            content = model_bytes(model, self.inputs.data.shape, self.config.network_settings)
            self.directory.write({size_file(model.latent_dim): content})

    def _save_checkpoint(self, epoch: int) -> None:
        state, tables = self.trainer.state_dict(), self._added_rows()
        self.directory.write({CURVE_CHECKPOINT: to_bytes({"epoch": epoch, "trainer": state, "tables": tables})})

    def _added_rows(self) -> dict[str, TableState | str]:
        """Return the rows that the curve has added to tables, as texts with a header."""
        times = [row for row in self.directory.rows("times") if int(row["epoch"]) > self.run_epochs]
        added = {"curve": self.directory.rows("curve"), "times": times}
        return {name: csv_text([COLUMNS[name], *(row.values() for row in rows)]) for name, rows in added.items()}

    def _rows(self, table: str) -> list[dict[str, Cell]]:
        return [{name: parse_cell(cell) for name, cell in row.items()} for row in self.directory.rows(table)]

    def _summary(self) -> CurveSummary:
        seconds = [row for row in self._rows("times") if int(str(row["epoch"])) > self.run_epochs]
        spent = sum(float(str(row[name])) for row in seconds for name in ("train_seconds", "metrics_seconds"))
        sizes = smallest_sizes(
            self._rows("curve"),
            self._rows("metrics"),
            beta=self.config.model.beta,
            has_frechet=self.config.metrics.fid_features != "none",
        )
        return {"smallest_sizes": sizes, "curve_epochs": len(seconds), "curve_seconds": round(spent, 2)}

    def favoured(self, summary: CurveSummary) -> tuple[VAE, dict[str, Cell]] | None:
        """Return the model that the run keeps instead of its answer, and its metrics; None if it favours nothing."""
        if self.settings.favour is None:
            return None
        size = summary["smallest_sizes"][self.settings.favour]
        final = next(row for row in self._rows("curve") if row["latent_dim"] == size)
        return load(self.directory.path / size_file(size), self.inputs.device), final

    def close(self) -> None:
        """Delete the models of the sizes, unless they are to be kept; for a finished run."""
        if not self.settings.keep_sizes:
            shutil.rmtree(self.directory.path / SIZES, ignore_errors=True)
