"""The answer of a series of runs in words: how many dimensions, what the model keeps, since when, and how sure."""

from __future__ import annotations

from collections.abc import Hashable, Mapping, Sequence
from statistics import fmean, stdev

from aldvae.analysis.grid_search import find_grids, yardstick_table
from aldvae.analysis.series import Series
from aldvae.analysis.tables import initial_sizes_table
from aldvae.config.run_config import RunConfig
from aldvae.runs.curve import FAVOURED_TEXT, describe_curve
from aldvae.runs.results import Result, describe_answer

# For one run of a rule that does not judge its own answer.
_UNSURE = "This rule does not say how sure that is: repeat it with aldvae seeds, or use --protocol recommended."
_OWNERS = {"paper": "The paper's rule", "authors": "The rule of the authors' code"}


def counts_information(series: Series) -> bool:
    """Return whether the rule of the runs told how many dimensions carry information."""
    return all("n_informative" in result.answer for result in series.results)


def headline_sizes(series: Series) -> list[int]:
    """Return the number to show for each run: informative dimensions or, where the rule counts none, the size found.

    With ``--no-stop``, that is the size at which the rule would have stopped. Runs without an answer are left out.
    """
    if counts_information(series):
        return [result.answer["n_informative"] for result in series.results]
    if series.finds_size:
        return series.sizes_found
    return [size for result in series.results if (size := result.answer["stop_latent_dim"]) is not None]


def answer_sentences(series: Series) -> list[str]:
    """Return two sentences about adaptive runs; a third if they have curves.

    The first says how many dimensions were found and how sure that is, the second what the models keep, since when, and
    for which model this holds.
    """
    alone = len(series.results) == 1
    if counts_information(series):
        first = f"{describe_answer(series.results[0].answer)}." if alone else _informative(series)
    else:
        first = _stopped(series)
    return [first, _kept(series), *([curve] if (curve := _curve(series)) else [])]


def _informative(series: Series) -> str:
    answers = [result.answer for result in series.results]
    numbers = [answer["n_informative"] for answer in answers]
    settled = [epoch for answer in answers if (epoch := answer["settled_epoch"]) is not None]
    text = f"Over {len(numbers)} seeds, {_listed(numbers)} dimensions carry information{_moments(numbers)}"
    epochs, overfit = series.config.training.epochs, [e for a in answers if (e := a.get("overfit_since")) is not None]
    if len(settled) == len(numbers):
        text += f"; all had settled, at {_epochs(settled)} of {epochs}"
    else:
        remedy = "" if overfit else ": train for more"
        text += f"; {len(settled)} of {len(numbers)} had settled within {epochs} epochs{remedy}"
    return f"{text}{_overfit(overfit, len(numbers))}."


def _overfit(epochs: Sequence[int], n_runs: int) -> str:
    """Return in how many of the runs the loss rose again since one of `epochs`; empty if in none."""
    if not epochs:
        return ""
    runs = f"with {len(epochs)} of {n_runs} seeds"
    return f"; {runs} the loss on the samples held out rises since {_epochs(epochs)}: use more samples or fewer epochs"


def _stopped(series: Series) -> str:
    """Return where a rule stopped that does not count dimensions with information."""
    rule, epochs = rule_text(series.config), series.config.training.epochs
    found, of_all = headline_sizes(series), f"of {series.config.model.init_dim} dimensions"
    if not found:
        return f"{rule} found no size: {_listed(series.sizes)} dimensions were reached in {epochs} epochs."
    if not series.finds_size:
        rule += ", if it had been obeyed, would have"
    when = f"{_epochs(series.epochs_found)} of {epochs}"
    if len(series.results) == 1:
        note = _active(series.results[0]) if series.finds_size else ""
        return f"{rule} stopped at {when} with {found[0]} {of_all}{note}. {_UNSURE}"
    stopped = "all" if len(found) == len(series.seeds) else f"{len(found)} of {len(series.seeds)}"
    return f"{rule} found {_listed(found)} {of_all}{_moments(found)}; {stopped} seeds stopped, at {when}."


def _active(result: Result) -> str:
    active = result.answer["final"].get("active_units")
    return "" if active is None else f"; {active} of them {'is' if active == 1 else 'are'} active at the end"


def _kept(series: Series) -> str:
    """Return what the models keep, since when, and under which likelihood and beta the answer holds."""
    if len(series.results) > 1:
        kept = f"The models keep {_listed(series.sizes)} dimensions, from {series.config.model.init_dim}"
    else:
        kept = _favoured(series.results[0]) or _kept_by_one(series.results[0])
    return f"{kept}; this holds for {model_text(series.config)}."


def _kept_by_one(result: Result) -> str:
    size, start, since = result.answer["latent_dim"], result.config.model.init_dim, kept_since(result)
    if since is None:
        return f"The model keeps all {size} dimensions that it started with"
    kept = f"keeps {size} of the {start} dimensions that it started with" if size < start else f"has {size} dimensions"
    grown = f", grown from {start}" if size > start else ""
    return f"The model {kept}{grown}, since epoch {since}"


def _favoured(result: Result) -> str:
    """Return what a run keeps that favours a size of its curve; empty if it favours none."""
    compression = result.config.compression
    if compression is None or compression.favour is None:
        return ""
    size, by = result.answer["latent_dim"], FAVOURED_TEXT[compression.favour]
    return f"The model keeps {size} dimensions, the smallest size of the curve that is good by {by}"


def kept_since(result: Result) -> int | None:
    """Return the epoch at whose end the run got its final size; None if it had it from the start."""
    sizes = result.metrics["latent_dim"].tolist()
    found = int(result.curve["latent_dim"].max()) if not result.curve.empty else result.answer["latent_dim"]
    other = [epoch for epoch, size in enumerate(sizes, start=1) if size != found]
    return other[-1] if other else None


def rule_text(config: RunConfig) -> str:
    """Return the name of a run's rule as the subject of a sentence."""
    return _OWNERS.get(str(config.rule), f"The rule {config.rule}")


def model_text(config: RunConfig) -> str:
    """Return likelihood and beta, as a sentence names them."""
    model = config.model
    posterior = "" if model.posterior == "gaussian" else f", a {model.posterior} posterior"
    return f"a {model.likelihood.capitalize()} likelihood{posterior} and beta {model.beta:g}"


def comparison_sentences(all_series: Sequence[Series]) -> list[str]:
    """Return a sentence for each set of initial sizes with one rule, and for each grid search: its yardstick."""
    starts = [
        f"{_names(row)}, rule {row['rule']}: from {_words(row['init_dims'])} dimensions, the mean sizes are"
        f" {_words(row['size_means'])}, a spread of {row['spread']:g}."
        for row in initial_sizes_table(all_series).to_dict("records")
    ]
    grids = [
        f"{_names(row)}: of the models of fixed size, {row['yardstick']} is the smallest as good as the best."
        for row in yardstick_table(find_grids(all_series)).to_dict("records")
        if row["yardstick"]
    ]
    return starts + grids


def _names(row: Mapping[Hashable, object]) -> str:
    return f"{row['dataset']} ({row['settings']})" if row["settings"] else str(row["dataset"])


def _words(numbers: str) -> str:
    return _listed(numbers.split())


def _curve(series: Series) -> str:
    if len(series.results) == 1:
        return describe_curve(series.results[0].answer)
    sizes: dict[str, list[int]] = {}
    for result in series.results:
        for favoured, size in result.answer.get("smallest_sizes", {}).items():
            sizes.setdefault(favoured, []).append(size)
    if not sizes:
        return ""
    parts = [f"{_listed(found)} by {FAVOURED_TEXT[favoured]}" for favoured, found in sizes.items()]
    return f"Smallest sizes as good as the best of the curves: {'; '.join(parts)}."


def _epochs(epochs: Sequence[int]) -> str:
    low, high = min(epochs), max(epochs)
    return f"epoch {low}" if low == high else f"epochs {low} to {high}"


def _moments(numbers: Sequence[int]) -> str:
    """Return mean and deviation in brackets; empty for a single number."""
    return f" (mean {fmean(numbers):.1f}, deviation {stdev(numbers):.1f})" if len(numbers) > 1 else ""


def _listed(numbers: Sequence[object]) -> str:
    return f"{', '.join(map(str, numbers[:-1]))} and {numbers[-1]}" if len(numbers) > 1 else str(numbers[0])
