"""What a run records about its decisions: a row for each, and the summary at the end."""

from __future__ import annotations

from aldvae.compression.compressor import Compressor
from aldvae.compression.steps import Step
from aldvae.config.run_config import RunConfig
from aldvae.config.sections import AUTO
from aldvae.runs.directory import RunDirectory
from aldvae.runs.records import Answer, Cell, ChosenPrecision, CurveSummary, Summary, parse_cell
from aldvae.training.callbacks import Row
from aldvae.training.overfitting import overfit_since
from aldvae.training.trainer import Trainer


def decision_row(step: Step, stops: bool) -> Row:
    """Return the row of ``decisions.csv`` for a step with a decision; `stops`: whether the run obeys a stop."""
    decision = step.decision
    assert decision is not None
    if decision.stop:
        action = "stop" if stops else "would stop"
    else:
        removal = "remove" if step.removed else "keep" if decision.keep is None else "consolidate"
        action = "slow down" if decision.slowed else removal
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


def last_metrics(directory: RunDirectory) -> dict[str, Cell]:
    """Return the last row of ``metrics.csv``; None for a column that was not measured."""
    return {name: parse_cell(cell) for name, cell in directory.rows("metrics")[-1].items()}


def chosen_precision(trainer: Trainer) -> ChosenPrecision:
    """Return what a run that leaves its precision to the machine records; nothing if its settings name one."""
    return {"precision": trainer.precision} if trainer.config.training.precision == AUTO else {}


def summarise(
    config: RunConfig, trainer: Trainer, directory: RunDirectory, final: dict[str, Cell], curve: CurveSummary
) -> Summary:
    """Return the summary of a run after its last epoch; `final` are the metrics of the finished model.

    `latent_dim` is the size of the finished model. `stop_epoch` and `stop_latent_dim` say where the rule stopped, or
    would have stopped with ``--no-stop``; both are null if it did not, and for a model of fixed size. `reason` is that
    of the last decision. `curve` is what the run's curve says; empty without one.
    """
    times = [row for row in directory.rows("times") if int(row["epoch"]) <= config.training.epochs]
    decisions = directory.rows("decisions")
    compressor = trainer.compressor
    return {
        "latent_dim": int(str(final["latent_dim"])),
        "stop_epoch": compressor.stop_epoch if compressor else None,
        "stop_latent_dim": compressor.stop_latent_dim if compressor else None,
        "rule": config.rule,
        "reason": decisions[-1]["reason"] if decisions else None,
        "epochs": config.training.epochs,
        "train_seconds": round(sum(float(row["train_seconds"]) for row in times), 2),
        "metrics_seconds": round(sum(float(row["metrics_seconds"]) for row in times), 2),
        "final": final,
        "train_samples": len(trainer.samples),
        **_answer(config, compressor, directory),
        **curve,
        **chosen_precision(trainer),
    }


def _answer(config: RunConfig, compressor: Compressor | None, directory: RunDirectory) -> Answer:
    """Return what the rule said of the number of informative dimensions; nothing if it does not count them."""
    if compressor is None or compressor.answer is None:
        return {}
    answer = compressor.answer
    assert answer.n_informative is not None
    rows = [row for row in directory.rows("metrics") if int(row["epoch"]) <= config.training.epochs]
    rows = [row for row in rows if row["recon_loss"]]
    losses = {int(row["epoch"]): float(row["recon_loss"]) + config.model.beta * float(row["kl"]) for row in rows}
    return {
        "n_informative": answer.n_informative,
        "n_range": None if answer.n_range is None else list(answer.n_range),
        "settled_epoch": answer.settled_epoch,
        "overfit_since": overfit_since(losses),
    }
