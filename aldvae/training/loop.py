"""One run, from its configuration to a finished run directory: epochs, metrics, rule."""

from __future__ import annotations

import io
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.metrics.evaluation import Evaluator, require_finite
from aldvae.models.serialization import FILE, model_bytes
from aldvae.runs.directory import RunDirectory
from aldvae.runs.provenance import session
from aldvae.runs.records import Summary
from aldvae.training.artifacts import draw_pictures
from aldvae.training.callbacks import Observer
from aldvae.training.checkpoint import resume
from aldvae.training.inputs import Prepared, Shelf, prepare
from aldvae.training.summary import decision_row, summarise
from aldvae.training.trainer import Trainer
from aldvae.utils.devices import cpu_settings
from aldvae.utils.files import rounded


@dataclass(frozen=True)
class Outcome:
    """A finished run: where it lies, its summary, and whether it had been finished before."""

    path: Path
    summary: Summary
    skipped: bool


def run(
    config: RunConfig,
    execution: Execution,
    observer: Observer | None = None,
    *,
    shelf: Shelf | None = None,
    wait: bool = True,
) -> Outcome:
    """Execute a run, or what is left of it; a finished one is left as it is.

    Where another process is at work on it, waits for that one, or without `wait` raises `BusyError`. Raises
    `ConfigError` before anything is written for data, weights, devices or directories that are not to be had,
    `DivergedError` when a loss or metric stops being a number.
    """
    observer, shelf = observer or Observer(), shelf or Shelf()
    with cpu_settings(execution.threads_for(config.usual_threads)) as threads, ExitStack() as locks:
        run = begin(config, execution, observer, threads, shelf, locks, wait)
        while run is not None and not run.done:
            since = time.perf_counter()
            loss = run.trainer.train_epoch(run.epoch)
            run.conclude(loss, time.perf_counter() - since)
        if run is not None:
            run.finish()
    directory = RunDirectory(execution.results_dir, config)
    return Outcome(directory.path, directory.summary(), skipped=run is None)


def begin(
    config: RunConfig,
    execution: Execution,
    observer: Observer,
    threads: int,
    shelf: Shelf,
    locks: ExitStack,
    wait: bool = False,
) -> Run | None:
    """Lock a run's directory, as long as `locks` is open, and return the run as far as it is; None if it is finished.

    Raises as `run` does.
    """
    directory = RunDirectory(execution.results_dir, config, observer.note)
    directory.check()
    if directory.finished:
        return None
    prepared = prepare(config, execution, threads, shelf)
    directory.check(prepared.inputs)
    locks.enter_context(directory.locked(wait))
    # Another process may have finished the run since we looked.
    return None if directory.finished else Run(config, execution, observer, directory, prepared)


class Run:
    """A run under way: what happens before its epochs, after each, and after the last.

    Its directory must be locked. `epoch` is the one to train next.
    """

    def __init__(
        self,
        config: RunConfig,
        execution: Execution,
        observer: Observer,
        directory: RunDirectory,
        prepared: Prepared,
    ) -> None:
        """Make the model, or take up where the run was; write down who works on it, and tell the observer."""
        self.config, self.directory, self.prepared = config, directory, prepared
        self.observer = _with_tensorboard(observer, directory) if execution.tensorboard else observer
        self.trainer = Trainer(config, prepared.data, prepared.device)
        validation, features = prepared.data.validation, prepared.features
        self.evaluator = Evaluator(config, validation, features, execution.cache_directory, prepared.device)
        self.epoch = 1 + self._begin(execution.plan)
        for note in [*config.warnings(), *([features.note] if features else [])]:
            self.observer.remark(note)
        self.observer.started(config, self.epoch)

    def _begin(self, plan: str | None) -> int:
        done, tables = resume(self.trainer, self.directory, self.observer)
        now = session(self.prepared.device, self.prepared.threads, done + 1, plan)
        before = self.directory.start_session(self.prepared.inputs, now)
        self.directory.restore_tables(tables)
        if done and before and (before["device"], before["threads"]) != (now["device"], now["threads"]):
            began = f"begun on {before['device']} with {before['threads']} threads"
            self.observer.note(f"{began}: last digits may differ")
        return done

    @property
    def done(self) -> bool:
        """Whether all epochs are trained."""
        return self.epoch > self.config.epochs

    def conclude(self, train_loss: float, train_seconds: float) -> None:
        """Measure, decide and write down the epoch that was just trained.

        Raises `DivergedError` where a loss or metric is no number.
        """
        epoch, model = self.epoch, self.trainer.model
        require_finite(epoch, train_loss=train_loss)
        begin, latent_dim, neurons = time.perf_counter(), model.latent_dim, self.trainer.neurons
        measuring = epoch % self.config.metrics_every == 0 or epoch == self.config.epochs
        evaluation = self.evaluator.evaluate(model, epoch).rounded() if measuring else None
        seconds = {"train_seconds": train_seconds, "metrics_seconds": time.perf_counter() - begin}
        row: dict[str, Any] = {"epoch": epoch, "latent_dim": latent_dim, "train_loss": rounded(train_loss)}
        row |= {"fid_features": self.config.fid_features, "fid_samples": self.config.fid_samples}
        if evaluation is not None:
            row |= evaluation.metrics
            kl = zip(neurons, evaluation.kl, strict=True)
            self.directory.append("latent", [{"epoch": epoch, "neuron": neuron, "kl": value} for neuron, value in kl])
        self.directory.append("metrics", [row])
        self.directory.append("times", [{"epoch": epoch} | {name: round(value, 4) for name, value in seconds.items()}])
        step = self.trainer.compress(evaluation)
        if step is not None and step.decision is not None:
            self.directory.append("decisions", [decision_row(step, self.config.stop)])
        self._save()
        self.epoch += 1
        self.observer.epoch_done(row, step)

    def _save(self) -> None:
        content = io.BytesIO()
        state = {"epoch": self.epoch, "trainer": self.trainer.state_dict(), "tables": self.directory.tables_text}
        torch.save(state, content)
        self.directory.save_checkpoint(content.getvalue())

    def finish(self) -> None:
        """Leave the model, its pictures and the summary."""
        model, data = self.trainer.model, self.prepared.data
        pictures = draw_pictures(model, self.config, data.validation)
        summary = summarise(self.config, self.trainer, self.directory)
        summary["train_samples"] = len(data.train)
        if summary["final"]["latent_dim"] != model.latent_dim:
            # The last decision changed the model after it was measured.
            evaluation = self.evaluator.evaluate(model, self.config.epochs).rounded()
            summary["final"].update(evaluation.metrics, latent_dim=model.latent_dim)
        self.directory.finish(summary, {FILE: model_bytes(model, data.shape, self.config.network_settings), **pictures})
        self.observer.finished(self.directory.path)


def _with_tensorboard(observer: Observer, directory: RunDirectory) -> Observer:
    from aldvae.training.tensorboard import TensorBoard

    return TensorBoard(observer, directory.path)
