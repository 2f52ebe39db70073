"""The life of a run, from its configuration to a finished run directory, alone or in a stack.

A lone run is a stack of one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import ParamSpec, TypeVar

from aldvae.compression.steps import Step
from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.config.sections import AUTO
from aldvae.metrics.evaluation import Evaluation, Evaluator, require_finite
from aldvae.models.serialization import FILE, model_bytes
from aldvae.runs.directory import RunDirectory
from aldvae.runs.provenance import session
from aldvae.runs.records import Cell, CurveSummary, Summary
from aldvae.training.artifacts import artifact_files
from aldvae.training.callbacks import Callback, Row
from aldvae.training.checkpoint import resume, to_bytes
from aldvae.training.curve import Curve
from aldvae.training.inputs import InputCache, RunInputs, load_inputs
from aldvae.training.precision import measure_steps
from aldvae.training.stacked import train_stack
from aldvae.training.summary import chosen_precision, decision_row, last_metrics, summarise
from aldvae.training.trackers import with_loggers
from aldvae.training.trainer import Trainer
from aldvae.training.workload import default_threads
from aldvae.utils.devices import cpu_settings
from aldvae.utils.rounding import round_for_csv

P = ParamSpec("P")
T = TypeVar("T")


@dataclass(frozen=True)
class Outcome:
    """A run that has ended: its directory, its summary, and whether it was finished before (`skipped`).

    With `Execution.answer_only` the run may be unfinished: `epoch` is then its last one, and `summary` says what is
    known by then; it is not in the directory.
    """

    path: Path
    summary: Summary
    skipped: bool = False
    epoch: int | None = None


@dataclass(frozen=True)
class Member:
    """A run of a stack: what it is, how it is executed, and what receives its progress."""

    config: RunConfig
    execution: Execution
    callback: Callback


def run(
    config: RunConfig,
    execution: Execution,
    callback: Callback | None = None,
    *,
    cache: InputCache | None = None,
    wait: bool = True,
) -> Outcome:
    """Execute a run, or what is left of it; a finished run is left as it is.

    With `execution.answer_only` it ends unfinished when its rule has an answer, at the latest after its last epoch.
    While another process works on the run, waits for it, or without `wait` raises `BusyError`. Raises `ConfigError`
    before anything is written if data, weights, device or directory are unavailable, and `DivergedError` when a loss or
    metric is NaN or infinite.
    """
    member = Member(config, execution, callback or Callback())
    ((_, outcome),) = run_stack([member], cache or InputCache(), wait)
    if isinstance(outcome, Exception):
        raise outcome
    return outcome


def run_stack(
    members: Sequence[Member], cache: InputCache, wait: bool = False
) -> Iterator[tuple[RunConfig, Outcome | Exception]]:
    """Execute runs that have one `sweeps.stacking.stack_key`; yield each as it ends, with its outcome or its error.

    A run that raises leaves the others alone; only an error of the training itself, such as a lack of memory, is raised
    here and ends them all. A stack of one is trained by `Trainer.train_epoch`, a larger one by `train_stack`.
    """
    alone = len(members) == 1
    with cpu_settings(members[0].execution.threads_for(None)), ExitStack() as contexts:
        runs: list[Run] = []
        for member in members:
            opened = _catch(open_run, member, len(members), cache, contexts, wait)
            if isinstance(opened, Run):
                runs.append(opened)
            else:
                yield member.config, opened
        yield from _train(runs, _train_alone if alone else train_stack)


def _train(
    runs: list[Run], train_epoch: Callable[[Sequence[Trainer], int], list[float]]
) -> Iterator[tuple[RunConfig, Outcome | Exception]]:
    """Train `runs` to their last epochs; those resumed at an earlier epoch than others first, until they catch up."""
    while runs:
        epoch = min(run.epoch for run in runs)
        group = [run for run in runs if run.epoch == epoch]
        start = time.perf_counter()
        losses = train_epoch([run.trainer for run in group], epoch)
        seconds = (time.perf_counter() - start) / len(group)
        for run, loss in zip(group, losses, strict=True):
            outcome = _catch(run.end_epoch, loss, seconds)
            if outcome is not None:
                runs.remove(run)
                yield run.config, outcome


def _train_alone(trainers: Sequence[Trainer], epoch: int) -> list[float]:
    return [trainer.train_epoch(epoch) for trainer in trainers]


def _catch(function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T | Exception:
    """Return what `function` returns, or the exception that it raises."""
    try:
        return function(*args, **kwargs)
    except Exception as error:
        return error


def open_run(member: Member, n_runs: int, cache: InputCache, contexts: ExitStack, wait: bool) -> Run | Outcome:
    """Return the run, resumed from its last checkpoint, or its outcome if nothing is left to train.

    While `contexts` is open, its directory stays locked and the CPU's threads are those for a stack of `n_runs` runs.
    Raises as `run` does.
    """
    config, execution = member.config, member.execution
    directory = RunDirectory(execution.results_dir, config, member.callback.on_message)
    directory.check()
    if not directory.finished:
        inputs = load_inputs(config, execution, cache)
        directory.check(inputs.fingerprints)
        contexts.enter_context(directory.locked(wait))
        # Another process may have finished the run in the meantime.
        if not directory.finished:
            trainer = Trainer(config, inputs.data, inputs.device)
            default = default_threads(config, trainer.model, inputs.data.shape, n_runs)
            threads = contexts.enter_context(cpu_settings(execution.threads_for(default)))
            run = Run(member, directory, inputs, trainer, threads)
            return run.end() or run
    return Outcome(directory.path, directory.summary(), skipped=True)


class Run:
    """A run in progress, in its locked directory; `epoch` is the one to train next."""

    def __init__(
        self, member: Member, directory: RunDirectory, inputs: RunInputs, trainer: Trainer, threads: int
    ) -> None:
        """Resume the fresh `trainer`, add this session to the provenance, and call the callback's `on_start`."""
        config, execution, features = member.config, member.execution, inputs.features
        self._answer_only = execution.answer_only
        self.config, self.directory, self.inputs = config, directory, inputs
        self.callback = with_loggers(member.callback, execution, directory.path)
        self.trainer = trainer
        self.evaluator = Evaluator(config, inputs.data.validation, features, execution.cache_directory, inputs.device)
        self.epoch = 1 + self._resume(execution.plan, threads)
        for text in [*inputs.describe(config), *config.notes(), *([features.description] if features else [])]:
            self.callback.on_message(text, general=True)
        self.callback.on_start(config, self.epoch)

    def _resume(self, plan: str | None, threads: int) -> int:
        """Restore model and tables from the last checkpoint; return its epoch, 0 without one."""
        epoch, tables = resume(self.trainer, self.directory, self.callback)
        self._choose_precision()
        current = session(self.inputs.device, threads, epoch + 1, plan, chosen_precision(self.trainer))
        previous = self.directory.start_session(self.inputs.fingerprints, current)
        self.directory.restore_tables(tables)
        if epoch and previous and (previous["device"], previous["threads"]) != (current["device"], current["threads"]):
            started = f"started on {previous['device']} with {previous['threads']} threads"
            self.callback.on_message(f"{started}: the last digits may differ")
        return epoch

    def _choose_precision(self) -> None:
        """Measure which precision is faster, if the run leaves that to the machine and does not go on with one."""
        if self.trainer.precision == AUTO:
            times = measure_steps(self.config, self.inputs.data, self.inputs.device)
            self.trainer.precision = times.precision
            self.callback.on_message(str(times))

    def end_epoch(self, train_loss: float, train_seconds: float) -> Outcome | None:
        """Measure, record and compress after an epoch was trained; then `end` the run if that was the last one.

        Returns None while epochs are left to train. Raises `DivergedError` if a loss or metric is NaN or infinite, and
        what the callback raises.
        """
        epoch, config = self.epoch, self.config
        require_finite(epoch, train_loss=train_loss)
        start = time.perf_counter()
        measures = epoch % config.metrics.metrics_every == 0 or epoch == config.training.epochs
        evaluation = self.evaluator.evaluate(self.trainer.model, epoch).rounded() if measures else None
        row = self._record(train_loss, train_seconds, time.perf_counter() - start, evaluation)
        step = self.trainer.compress(evaluation)
        if step is not None:
            self._record_step(step)
        self._save_checkpoint()
        self.epoch += 1
        self.callback.on_epoch_end(epoch, row, step)
        return self.end()

    def _record(
        self, train_loss: float, train_seconds: float, metrics_seconds: float, evaluation: Evaluation | None
    ) -> Row:
        """Append the epoch to the tables; return its row of ``metrics.csv``."""
        config, epoch = self.config, {"epoch": self.epoch}
        row: dict[str, float | str] = {
            **epoch,
            "latent_dim": self.trainer.model.latent_dim,
            "train_loss": round_for_csv(train_loss),
        }
        row |= {"fid_features": config.metrics.fid_features, "fid_samples": config.metrics.fid_samples}
        if evaluation is not None:
            row |= evaluation.metrics
            kl = zip(self.trainer.neurons, evaluation.kl, strict=True)
            self.directory.append("latent", [{**epoch, "neuron": neuron, "kl": value} for neuron, value in kl])
        self.directory.append("metrics", [row])
        seconds = {"train_seconds": round(train_seconds, 4), "metrics_seconds": round(metrics_seconds, 4)}
        self.directory.append("times", [{**epoch, **seconds}])
        return row

    def _record_step(self, step: Step) -> None:
        """Append what the rule judged and decided to the tables."""
        if step.directions is not None:
            pairs = zip(step.directions.information, step.directions.unique, strict=True)
            rows = [{"direction": j, "information": total, "unique": unique} for j, (total, unique) in enumerate(pairs)]
            self.directory.append("directions", [{"epoch": self.epoch, **row} for row in rows])
        if step.decision is not None and self.config.compression is not None:
            self.directory.append("decisions", [decision_row(step, self.config.compression.stop)])

    def _save_checkpoint(self) -> None:
        state, tables = self.trainer.state_dict(), self.directory.table_states
        self.directory.save_checkpoint(to_bytes({"epoch": self.epoch, "trainer": state, "tables": tables}))

    def end(self) -> Outcome | None:
        """Finish the run after its last epoch, or leave it unfinished if only the answer is asked for and known.

        Returns None while epochs are left to train.
        """
        is_over = self.epoch > self.config.training.epochs
        if self._answer_only and (is_over or self.trainer.has_answer):
            last = last_metrics(self.directory) | {"latent_dim": self.trainer.model.latent_dim}
            summary = summarise(self.config, self.trainer, self.directory, last, CurveSummary())
            return Outcome(self.directory.path, summary, epoch=self.epoch - 1)
        return self.finish() if is_over else None

    def finish(self) -> Outcome:
        """Draw the curve if asked for; write the model, its images and the summary, which marks the run as finished."""
        model, data, config, final = self.trainer.model, self.inputs.data, self.config, self._final_metrics()
        curve = self._curve()
        said = curve.trace(final) if curve is not None else CurveSummary()
        if curve is not None:
            model, final = curve.favoured(said) or (model, final)
        images = artifact_files(model, config, data.validation)
        summary = summarise(config, self.trainer, self.directory, final, said)
        self.directory.finish(summary, {FILE: model_bytes(model, data.shape, config.network_settings), **images})
        if curve is not None:
            curve.close()
        self.callback.on_finish(self.directory.path)
        return Outcome(self.directory.path, summary)

    def _curve(self) -> Curve | None:
        """Return the curve, resumed from its last checkpoint; None if it is not asked for."""
        compression = self.config.compression
        if compression is None or not compression.curve:
            return None
        return Curve(self.trainer, self.inputs, self.evaluator, self.directory, self.callback)

    def _final_metrics(self) -> dict[str, Cell]:
        """Return the metrics of the finished model: measured anew if the last decision changed it after its row."""
        final, model = last_metrics(self.directory), self.trainer.model
        if final["latent_dim"] == model.latent_dim:
            return final
        evaluation = self.evaluator.evaluate(model, self.config.training.epochs).rounded()
        return final | {"latent_dim": model.latent_dim} | evaluation.metrics
