"""All runs under a directory as one HTML file without any other files or links."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import pandas as pd

from aldvae.analysis.answers import comparison_sentences
from aldvae.analysis.grid_search import find_grids
from aldvae.analysis.series import Series, group_by_seed
from aldvae.analysis.tables import make_tables, text_rows
from aldvae.reporting.answer_view import AnswerView, environment, settings_text
from aldvae.reporting.figures.ablation import draw_ablations
from aldvae.reporting.figures.grid_search import draw_yardsticks
from aldvae.reporting.figures.latent_space import example_runs
from aldvae.reporting.figures.paper import draw_paper
from aldvae.reporting.figures.style import print_style
from aldvae.reporting.figures.svg import inline_svg
from aldvae.reporting.run_charts import latent_space_charts, uri
from aldvae.runs.results import Result, read_results
from aldvae.utils.errors import ConfigError
from aldvae.utils.files import write_atomically

_CAPTIONS = {
    "figure2": "Metrics while the latent space shrinks to its smallest size; red: when the rule would have stopped.",
    "figure3": "The adaptive model, and a model with the size found from the start.",
    "figure4": "The same rule from several initial sizes; Dim is the final size.",
    "yardstick": "A grid search (means over seeds; bars: standard errors; dashed: one standard error above the best),"
    " the smallest size as good as the best (red), and the sizes that each method finds (hollow: reached, not found).",
    "variants": "Final sizes of runs that differ in their settings.",
}
_TABLES = {
    "sizes": "Size found with each seed; in brackets: reached without a stop",
    "initial_sizes": "Mean sizes found from different initial sizes, and their spread",
    "adaptive_and_fixed": "Final metrics of adaptive models, and of models with the size found from the start",
    "cost": "The cost of an adaptive run and of a grid search, for one seed",
    "yardstick": "The yardstick: the smallest size of a grid that is as good as the best, within one standard error",
    "methods": "The sizes that each method finds, their error against the yardstick, and their cost for one seed",
    "variants": "Final sizes and metrics of runs with the same initial size that differ in their settings",
}
_IMAGES = {
    "reconstructions": "Validation samples (above) and their reconstructions (below).",
    "samples": "Samples from the prior.",
    "traversal": "Latent traversals from -2.5 to 2.5: a row for each dimension, highest KL divergence first.",
}
# The courses of so many answers are shown; of more, those of the example runs.
_MOST_COURSES = 6
# Answers are shown in this order of rules.
_RULES = ("consolidate", "robust", "paper", "authors")


def write_report(results_dir: Path, path: Path) -> None:
    """Write the report on all runs under `results_dir` to `path`; raises `ConfigError` if no run is finished."""
    all_series, left_out = group_by_seed(read_results(results_dir))
    if not all_series:
        raise ConfigError("results_dir", f"{results_dir} holds no finished run; aldvae adaptive makes one")
    with print_style():
        content = _content(all_series, left_out)
    write_atomically(path, environment().get_template("report.html").render(content))


def _content(all_series: Sequence[Series], left_out: Sequence[str]) -> dict[str, object]:
    """Return the variables of the template."""
    adaptive = [series for series in all_series if series.config.rule is not None]
    found = sorted(adaptive, key=lambda s: (not s.finds_size, _RULES.index(str(s.config.rule))))
    drawn = draw_paper(all_series) | draw_yardsticks(all_series) | draw_ablations(all_series)
    datasets = ", ".join(sorted({series.config.data.dataset for series in all_series}))
    figures = enumerate(drawn.figures.items())
    return {
        "title": f"How many latent dimensions? {datasets}",
        "runs": sum(len(series.results) for series in all_series),
        "hardware": _hardware(all_series),
        "answers": _answers(found, all_series),
        "comparisons": comparison_sentences(all_series),
        "figures": [{"svg": inline_svg(f, f"f{number}"), "caption": _caption(name)} for number, (name, f) in figures],
        "tables": list(_tables(all_series)),
        "models": [_model(result) for result in _examples(found, all_series)],
        "settings": [_settings(series) for series in all_series],
        "missing": [*left_out, *drawn.missing],
    }


def _answers(found: Sequence[Series], all_series: Sequence[Series]) -> list[AnswerView]:
    grids, few = find_grids(all_series), len(found) <= _MOST_COURSES
    examples = {result.path for result in _examples(found, all_series)}
    return [
        AnswerView.make(series, grids, with_course=few or any(result.path in examples for result in series.results))
        for series in found
    ]


def _examples(found: Sequence[Series], all_series: Sequence[Series]) -> list[Result]:
    """Return a run of each dataset to look at: that of the first answer or, where there is none, another."""
    examples: dict[tuple[str, str | None], Result] = {}
    for result in [*(series.results[0] for series in found), *example_runs(all_series)]:
        if not result.latent_space.empty:
            examples.setdefault((result.config.data.dataset, result.config.data.source), result)
    return list(examples.values())


def _tables(all_series: Sequence[Series]) -> Iterable[dict[str, object]]:
    for name, full in make_tables(all_series).items():
        table = _readable(full)
        if not table.empty:
            columns = [column.replace("_", " ") for column in table.columns]
            yield {"title": _TABLES[name], "columns": columns, "rows": text_rows(table)}


def _readable(table: pd.DataFrame) -> pd.DataFrame:
    """Return `table` without empty columns, and the long text of the settings last: numbers need no scrolling."""
    columns = table.columns[table.notna().any()]
    return table[sorted(columns, key=lambda name: name == "settings")]


def _model(result: Result) -> dict[str, object]:
    config = result.config
    images = [
        {"image": uri(file.read_bytes(), f"image/{file.suffix[1:]}"), "caption": caption}
        for name, caption in _IMAGES.items()
        if (file := result.image(name)) is not None
    ]
    size, active = result.answer["latent_dim"], result.last.get("active_units")
    run = f"{config.data.dataset}, {config.kind}, seed {config.training.seed}"
    title = f"The model: {run}, {size} dimensions, {active} active units"
    return {"title": title, "images": images, "plots": latent_space_charts(result)}


def _settings(series: Series) -> dict[str, object]:
    config = series.config
    rule = "" if config.rule else "fixed size; "
    if config.compression is not None and not config.compression.stop:
        rule += "without stop; "
    commands = "\n".join(result.config.command for result in series.results)
    title = f"{config.data.dataset}: {rule}{settings_text(series)}"
    return {"title": title, "commands": commands, "settings": list(config.to_json().items())}


def _hardware(all_series: Sequence[Series]) -> str:
    """Return where the runs were made, according to their provenance."""
    places = {place for series in all_series for result in series.results for place in _places(result)}
    return "Made on " + "; ".join(sorted(places)) + "."


def _places(result: Result) -> Iterable[str]:
    if not result.sessions:
        yield "unknown hardware"
    for session in result.sessions:
        device = session["device"] if session["device"] != "cpu" else session["processor"]
        torch = session["packages"].get("torch", "unknown")
        yield f"{device}, torch {torch}, commit {session['commit'] or 'unknown'}"


def _caption(name: str) -> str:
    figure, _, settings = name.partition("-")
    return _CAPTIONS[figure] + (f" ({settings.replace('-', ' ')})" if settings else "")
