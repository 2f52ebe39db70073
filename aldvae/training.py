"""One run, from its configuration to a finished run directory: epochs, metrics, rule."""

from __future__ import annotations

import io
import pickle
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from aldvae.compression.compressor import Compressor, Step
from aldvae.config import RunConfig
from aldvae.cpu import cpu_settings
from aldvae.data import Dataset, inputs, load_dataset
from aldvae.devices import pick_device
from aldvae.errors import ConfigError
from aldvae.execution import Execution
from aldvae.files import rounded
from aldvae.metrics.evaluation import Evaluation, Evaluator, check_samples, require_finite
from aldvae.metrics.features import Features, Request, load_features
from aldvae.models import build_vae
from aldvae.models.storage import FILE, model_bytes, network_settings
from aldvae.models.vae import kl_divergence
from aldvae.observer import Observer
from aldvae.pictures import draw_pictures
from aldvae.provenance import session
from aldvae.runs import RunDirectory, number
from aldvae.streams import generator, stream_seed


@dataclass(frozen=True)
class Outcome:
    """A finished run: where it lies, its summary, and whether it had been finished before."""

    path: Path
    summary: dict[str, Any]
    skipped: bool


class Trainer:
    """The model, its optimiser and, in an adaptive run, its compressor."""

    def __init__(self, config: RunConfig, data: Dataset, device: torch.device) -> None:
        """Make a fresh model; its weights depend on the seed alone, not on the device."""
        self.config, self.device = config, device
        self.samples = data.train.x.to(device)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(config.seed, "weights"))
            self.model = build_vae(data.shape, config.init_dim, **network_settings(config))
        if data.standardisation is not None:
            self.model.input_mean, self.model.input_scale = data.standardisation
        self.model.to(device)
        fused = device.type in ("cpu", "cuda")
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=config.lr, amsgrad=True, fused=fused)
        self.compressor = self._make_compressor() if config.kind == "adaptive" else None

    def _make_compressor(self) -> Compressor:
        return Compressor(
            heads=[self.model.mu, self.model.log_var],
            readers=[self.model.reader],
            optimizer=self.optimizer,
            rule=self.config.make_rule(),
            select=self.config.select,
            seed=self.config.seed,
            stop=self.config.stop,
            epochs=self.config.epochs,
        )

    @property
    def neurons(self) -> list[int]:
        """The latent neurons still there, by their position in the first model."""
        return self.compressor.neurons if self.compressor is not None else list(range(self.model.latent_dim))

    def train_epoch(self, epoch: int) -> float:
        """Train for one epoch; return the mean loss (negative ELBO with beta, nats per image) over its steps."""
        self.model.train()
        order = torch.randperm(len(self.samples), generator=generator(self.config.seed, "order", epoch))
        random = generator(self.config.seed, "noise", epoch, self.device)
        total = torch.zeros((), device=self.device)
        for index in order.to(self.device).split(self.config.batch_size):
            loss = self._step(inputs(self.samples[index]), random)
            total += loss * len(index)
        return float(total) / len(self.samples)

    def _step(self, x: Tensor, random: torch.Generator) -> Tensor:
        noise = torch.randn(len(x), self.model.latent_dim, generator=random, device=self.device)
        out = self.model(x, noise)
        kl = kl_divergence(out.mu, out.log_var)
        loss: Tensor = (self.model.likelihood(out.decoded, x).sum() + self.config.beta * kl.sum()) / len(x)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def compress(self, evaluation: Evaluation | None) -> Step | None:
        """Let the rule see the epoch's metrics (None: not measured), and remove neurons if it says so."""
        if self.compressor is None:
            return None
        if evaluation is None:
            return self.compressor.step()
        asked = {name: evaluation.metrics[name] for name in self.config.asked_metrics}
        return self.compressor.step(kl=evaluation.kl, **asked)

    def state_dict(self) -> dict[str, Any]:
        """Return everything that training goes on from."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "compressor": self.compressor.state_dict() if self.compressor is not None else None,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from `state`; only for a fresh trainer of the same configuration."""
        if self.compressor is not None:
            self.compressor.load_state_dict(state["compressor"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])


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
    directory = RunDirectory(execution.results_dir, config, observer.note)
    directory.check()
    if directory.finished:
        return Outcome(directory.path, directory.summary(), skipped=True)
    device = pick_device(execution.device)
    with cpu_settings(execution.threads_for(config.usual_threads)) as threads:
        data = load_data(config, execution, shelf)
        _check_data(config, data)
        features = load_features_of(config, execution, data, device, shelf)
        inputs = {"data": data.fingerprint, "features": features.identity if features else "none"}
        directory.check(inputs)
        with directory.locked(wait):
            # Another process may have finished the run since we looked.
            skipped = directory.finished
            if not skipped:
                trainer = Trainer(config, data, device)
                evaluator = Evaluator(config, data.validation, features, execution.cache_directory, device)
                if execution.tensorboard:
                    from aldvae.tensorboard import TensorBoard

                    observer = TensorBoard(observer, directory.path)
                notes = [*config.warnings(), *([features.note] if features else [])]
                first = _begin(trainer, directory, inputs, threads, notes, observer)
                for epoch in range(first, config.epochs + 1):
                    _epoch(epoch, trainer, evaluator, directory, observer)
                _finish(trainer, directory, data, observer)
    return Outcome(directory.path, directory.summary(), skipped)


def _finish(trainer: Trainer, directory: RunDirectory, data: Dataset, observer: Observer) -> None:
    pictures = draw_pictures(trainer.model, trainer.config, data.validation)
    summary = summarise(trainer.config, trainer, directory) | {"train_samples": len(data.train)}
    directory.finish(summary, {FILE: model_bytes(trainer.model, trainer.config, data.shape), **pictures})
    observer.finished(directory.path)


def _check_data(config: RunConfig, data: Dataset) -> None:
    check_samples(config, data.validation)
    if data.train.is_vectors and config.likelihood == "bernoulli":
        raise ConfigError("likelihood", "bernoulli is for pixels in [0, 1], not for vectors; use gaussian")


def _begin(
    trainer: Trainer,
    directory: RunDirectory,
    inputs: dict[str, str],
    threads: int,
    notes: list[str],
    observer: Observer,
) -> int:
    """Resume where the run was, write down who works on it, tell the observer; return the epoch to begin with."""
    done, tables = _resume(trainer, directory, observer)
    now = session(trainer.device, threads, done + 1)
    before = directory.begin(inputs, now)
    directory.restore_tables(tables)
    if done and before and any(before[name] != now[name] for name in ("device", "threads")):
        notes = [*notes, f"begun on {before['device']} with {before['threads']} threads: last digits may differ"]
    for note in notes:
        observer.note(note)
    observer.started(trainer.config, done + 1)
    return done + 1


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


def _epoch(epoch: int, trainer: Trainer, evaluator: Evaluator, directory: RunDirectory, observer: Observer) -> None:
    begin = time.perf_counter()
    latent_dim, neurons = trainer.model.latent_dim, trainer.neurons
    train_loss = trainer.train_epoch(epoch)
    require_finite(epoch, train_loss=train_loss)
    trained = time.perf_counter()
    measuring = epoch % trainer.config.metrics_every == 0 or epoch == trainer.config.epochs
    evaluation = evaluator.evaluate(trainer.model, epoch).rounded() if measuring else None
    measured = time.perf_counter()
    row: dict[str, Any] = {"epoch": epoch, "latent_dim": latent_dim, "train_loss": rounded(train_loss)}
    row |= {"fid_features": trainer.config.fid_features, "fid_samples": trainer.config.fid_samples}
    if evaluation is not None:
        row |= evaluation.metrics
        kl = zip(neurons, evaluation.kl, strict=True)
        directory.append("latent", [{"epoch": epoch, "neuron": neuron, "kl": value} for neuron, value in kl])
    directory.append("metrics", [row])
    seconds = {"train_seconds": round(trained - begin, 4), "metrics_seconds": round(measured - trained, 4)}
    directory.append("times", [{"epoch": epoch, **seconds}])
    step = trainer.compress(evaluation)
    if step is not None and step.decision is not None:
        directory.append("decisions", [decision_row(step, trainer.config.stop)])
    content = io.BytesIO()
    torch.save({"epoch": epoch, "trainer": trainer.state_dict(), "tables": directory.tables_text}, content)
    directory.save_checkpoint(content.getvalue())
    observer.epoch_done(row, step)


def decision_row(step: Step, stops: bool) -> dict[str, Any]:
    """Return the row of ``decisions.csv`` for a step that has a decision; `stops`: whether the run obeys a stop."""
    decision = step.decision
    assert decision is not None
    if decision.stop:
        action = "stop" if stops else "would stop"
    else:
        action = "slow down" if decision.slowed else "remove" if step.removed else "keep"
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
    or with ``--no-stop`` would have; both are null where it did not and in a run of fixed size.
    """
    times = directory.rows("times")
    compressor = trainer.compressor
    return {
        "latent_dim": trainer.model.latent_dim,
        "stop_epoch": compressor.stop_epoch if compressor else None,
        "stop_latent_dim": compressor.stop_latent_dim if compressor else None,
        "rule": config.rule if compressor else None,
        "epochs": config.epochs,
        "train_seconds": round(sum(float(row["train_seconds"]) for row in times), 2),
        "metrics_seconds": round(sum(float(row["metrics_seconds"]) for row in times), 2),
        "final": {name: number(cell) for name, cell in directory.rows("metrics")[-1].items()},
    }
