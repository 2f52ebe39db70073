"""Runs as trials of Optuna studies, for its dashboard and its tools."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from aldvae.compression.rules.registry import RULES
from aldvae.runs.results import Result
from aldvae.utils.errors import ConfigError

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.trial import FrozenTrial

# The rule of a model of fixed size, among Optuna's choices.
_FIXED = "none"
# Optuna's parameters need bounds; those of runs are wider than any that are in use.
_LARGEST_DIM, _LARGEST_BETA, _LARGEST_SEED = 65_536, 1e6, 2**62


def export_to_optuna(results: Sequence[Result], path: Path) -> tuple[int, int]:
    """Add a trial for each finished run to the SQLite file `path`; return how many were added and how many were there.

    Losses of different data have no order, so each dataset has a study of its own, with its name. The value of a trial
    is the final loss, `recon_loss` + `beta` * `kl` in nats per sample, its intermediate values that of every measured
    epoch; parameters are `init_dim`, `dataset`, `rule`, `beta` and `seed`. A run that the study holds already, by its
    name, is not added again. Raises `ConfigError` if Optuna is missing or cannot use the file.
    """
    try:
        import optuna
    except ImportError as error:
        raise ConfigError("optuna", "needs Optuna; pip install 'aldvae[optuna]'") from error
    from sqlalchemy.exc import SQLAlchemyError

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    path.parent.mkdir(parents=True, exist_ok=True)
    added = 0
    try:
        for name in sorted({_study_name(result) for result in results}):
            study = optuna.create_study(storage=f"sqlite:///{path.absolute()}", study_name=name, load_if_exists=True)
            added += _add_trials(study, [result for result in results if _study_name(result) == name])
    except (SQLAlchemyError, optuna.exceptions.OptunaError, OSError, ValueError) as error:
        problem = " ".join(str(error).split("\n")[0].split())
        raise ConfigError("optuna", f"{path} cannot be used by Optuna ({problem}); name another file") from error
    return added, len(results) - added


def _study_name(result: Result) -> str:
    """Return the dataset, for the user's own data with a hash of the samples."""
    data = result.config.data
    return data.dataset if data.source is None else f"{data.dataset}-{data.source[:8]}"


def _add_trials(study: Study, results: Sequence[Result]) -> int:
    known = {trial.user_attrs.get("run") for trial in study.get_trials(deepcopy=False)}
    new = [result for result in results if result.config.name not in known]
    study.add_trials([_trial(result) for result in new])
    return len(new)


def _trial(result: Result) -> FrozenTrial:
    from optuna.trial import create_trial

    config, answer = result.config, result.answer
    losses = result.metrics["recon_loss"] + config.model.beta * result.metrics["kl"]
    measured = zip(result.metrics["epoch"], losses, strict=True)
    found = {name: answer.get(name) for name in ("latent_dim", "stop_epoch", "n_informative", "settled_epoch")}
    return create_trial(
        value=_final_loss(result),
        params={
            "init_dim": config.model.init_dim,
            "dataset": config.data.dataset,
            "rule": config.rule or _FIXED,
            "beta": config.model.beta,
            "seed": config.training.seed,
        },
        distributions=_distributions(config.data.dataset),
        intermediate_values={int(epoch): float(loss) for epoch, loss in measured if loss == loss},
        user_attrs={"run": config.name, **found, "seconds": result.seconds, "settings": config.to_json()},
    )


def _final_loss(result: Result) -> float:
    final = result.answer["final"]
    return float(final["recon_loss"] or 0) + result.config.model.beta * float(final["kl"] or 0)


def _distributions(dataset: str) -> dict[str, BaseDistribution]:
    """Return the parameters of a study, the same for all its trials, as Optuna demands."""
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    return {
        "init_dim": IntDistribution(1, _LARGEST_DIM),
        "dataset": CategoricalDistribution([dataset]),
        "rule": CategoricalDistribution([_FIXED, *RULES]),
        "beta": FloatDistribution(0, _LARGEST_BETA),
        "seed": IntDistribution(0, _LARGEST_SEED),
    }
