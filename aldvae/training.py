"""One run, from its configuration to a finished run directory: epochs, metrics, rule."""

from __future__ import annotations

import io
import pickle
import time
import zipfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch

from aldvae.compression.compressor import Step
from aldvae.config import RunConfig
from aldvae.cpu import cpu_settings
from aldvae.data import Dataset, load_dataset
from aldvae.devices import pick_device
from aldvae.errors import ConfigError
from aldvae.execution import Execution
from aldvae.files import rounded
from aldvae.metrics.evaluation import Evaluator, check_samples, require_finite
from aldvae.metrics.features import Features, Request, load_features
from aldvae.models.storage import FILE, model_bytes
from aldvae.observer import Observer
from aldvae.pictures import draw_pictures
from aldvae.provenance import session
from aldvae.runs import RunDirectory, number
from aldvae.trainer import Trainer


@dataclass(frozen=True)
class Outcome:
    """A finished run: where it lies, its summary, and whether it had been finished before."""

    path: Path
    summary: dict[str, Any]
    skipped: bool


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
        done, tables = _resume(self.trainer, self.directory, self.observer)
        now = session(self.prepared.device, self.prepared.threads, done + 1, plan)
        before = self.directory.begin(self.prepared.inputs, now)
        self.directory.restore_tables(tables)
        if done and before and any(before[name] != now[name] for name in ("device", "threads")):
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
        summary = summarise(self.config, self.trainer, self.directory) | {"train_samples": len(data.train)}
        if summary["final"]["latent_dim"] != model.latent_dim:
            # The last decision changed the model after it was measured.
            evaluation = self.evaluator.evaluate(model, self.config.epochs).rounded()
            summary["final"] |= {"latent_dim": model.latent_dim} | evaluation.metrics
        self.directory.finish(summary, {FILE: model_bytes(model, self.config, data.shape), **pictures})
        self.observer.finished(self.directory.path)


def _with_tensorboard(observer: Observer, directory: RunDirectory) -> Observer:
    from aldvae.tensorboard import TensorBoard

    return TensorBoard(observer, directory.path)


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
    request = Request(execution.cache_directory, device, execution.inception_weights, config.fid_precision)
    key = (config.fid_features, data.fingerprint, request)
    features: Features | None = shelf.take("features", key, lambda: load_features(config.fid_features, data, request))
    return features


def _resume(trainer: Trainer, directory: RunDirectory, observer: Observer) -> tuple[int, dict[str, str]]:
    """Bring `trainer` to where the run was; return the last finished epoch and the tables up to it."""
    damaged = ""
    for name, content in directory.checkpoints():
        checkpoint = _checkpoint(content, trainer.device)
        if checkpoint is not None:
            if damaged:
                observer.note(f"{damaged} is damaged; going on from the one before it")
            trainer.load_state_dict(checkpoint["trainer"])
            return checkpoint["epoch"], checkpoint["tables"]
        damaged = damaged or name
    if damaged:
        observer.note(f"{damaged} is damaged or no checkpoint of aldvae; the run starts again from its first epoch")
    return 0, {}


def _checkpoint(content: bytes, device: torch.device) -> dict[str, Any] | None:
    """Return what a checkpoint holds, None if it is damaged or something else."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            if archive.testzip() is not None:
                return None
        checkpoint = torch.load(io.BytesIO(content), map_location=device, weights_only=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError, zipfile.BadZipFile):
        return None
    return checkpoint if isinstance(checkpoint, dict) and set(checkpoint) == {"epoch", "trainer", "tables"} else None


def decision_row(step: Step, stops: bool) -> dict[str, Any]:
    """Return the row of ``decisions.csv`` for a step that has a decision; `stops`: whether the run obeys a stop."""
    decision = step.decision
    assert decision is not None
    if decision.stop:
        action = "stop" if stops else "would stop"
    else:
        action = "slow down" if decision.slowed else "remove" if step.removed else "keep"
    if decision.undo:
        action = "undo" if action == "keep" else f"undo, {action}"
    return {
        "epoch": decision.epoch,
        "latent_dim": decision.latent_dim,
        "action": action,
        "removed": " ".join(map(str, step.neurons)),
        **{f"slope_{metric}": value for metric, value in decision.slopes.items()},
        "reason": decision.reason,
    }


def summarise(config: RunConfig, trainer: Trainer, directory: RunDirectory) -> dict[str, Any]:
    """Return the answer of a run whose last epoch is done.

    `latent_dim` is the size of the model that is left; `stop_epoch` and `stop_latent_dim` say where the rule stopped,
    or with ``--no-stop`` would have; both are null where it did not and in a run of fixed size. `reason` is that of the
    last decision.
    """
    times, decisions = directory.rows("times"), directory.rows("decisions")
    compressor = trainer.compressor
    return {
        "latent_dim": trainer.model.latent_dim,
        "stop_epoch": compressor.stop_epoch if compressor else None,
        "stop_latent_dim": compressor.stop_latent_dim if compressor else None,
        "rule": config.rule if compressor else None,
        "reason": decisions[-1]["reason"] if decisions else None,
        "epochs": config.epochs,
        "train_seconds": round(sum(float(row["train_seconds"]) for row in times), 2),
        "metrics_seconds": round(sum(float(row["metrics_seconds"]) for row in times), 2),
        "final": {name: number(cell) for name, cell in directory.rows("metrics")[-1].items()},
    }
