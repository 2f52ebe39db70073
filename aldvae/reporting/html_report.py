"""All runs under a directory as one HTML file without any other files or links."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from aldvae.analysis.series import Series, describe, group_by_seed
from aldvae.analysis.tables import make_tables, text_rows
from aldvae.reporting.figures.ablation import draw_ablations
from aldvae.reporting.figures.curve import draw_curves
from aldvae.reporting.figures.grid_search import draw_yardsticks
from aldvae.reporting.figures.latent_space import draw_latent_space, example_runs
from aldvae.reporting.figures.paper import draw_paper, size_text
from aldvae.reporting.figures.style import print_style
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
    "curve": "What fewer dimensions cost: a copy of each model, which went on down after its run (one line per seed).",
}
_TABLES = {
    "sizes": "Size found with each seed, and what the paper reports; in brackets: reached without a stop",
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


def write_report(results_dir: Path, path: Path) -> None:
    """Write the report on all runs under `results_dir` to `path`; raises `ConfigError` if no run is finished."""
    all_series, left_out = group_by_seed(read_results(results_dir))
    if not all_series:
        raise ConfigError("results_dir", f"{results_dir} holds no finished run; aldvae adaptive makes one")
    with print_style():
        content = _content(all_series, left_out)
    templates = Environment(loader=PackageLoader("aldvae.reporting"), autoescape=True, undefined=StrictUndefined)
    write_atomically(path, templates.get_template("report.html").render(content))


def _content(all_series: Sequence[Series], left_out: Sequence[str]) -> dict[str, object]:
    """Return the variables of the template."""
    drawn = draw_paper(all_series) | draw_yardsticks(all_series) | draw_ablations(all_series)
    drawn.figures |= draw_curves(all_series)
    return {
        "title": f"Latent sizes: {', '.join(sorted({series.config.data.dataset for series in all_series}))}",
        "runs": sum(len(series.results) for series in all_series),
        "hardware": _hardware(all_series),
        "answers": [_answer(series) for series in all_series if series.finds_size],
        "figures": [{"image": _figure(f), "caption": _caption(name)} for name, f in drawn.figures.items()],
        "tables": list(_tables(all_series)),
        "models": [_model(result) for result in example_runs(all_series)],
        "settings": [_settings(series) for series in all_series],
        "missing": [*left_out, *drawn.missing],
    }


def _answer(series: Series) -> dict[str, str]:
    config, epochs = series.config, series.epochs_found
    settings = f"rule {config.rule}, from {config.model.init_dim}, {_runs(len(series.seeds))}"
    settings += f"; {describe(config)}" if describe(config) else ""
    if not epochs:
        how = f"{size_text(series.sizes)} dimensions were reached in {config.training.epochs} epochs; {settings}"
        return {"dataset": config.data.dataset, "size": "no size found", "how": how}
    when = f"at epoch {min(epochs)}" + (f" to {max(epochs)}" if len(set(epochs)) > 1 else "")
    stopped = f", {len(epochs)} of {len(series.seeds)} stopped" if len(epochs) < len(series.seeds) else ""
    how = f"latent dimensions, {when}{stopped}; {settings}"
    return {"dataset": config.data.dataset, "size": size_text(series.sizes_found), "how": how}


def _runs(seeds: int) -> str:
    return "one seed" if seeds == 1 else f"{seeds} seeds"


def _tables(all_series: Sequence[Series]) -> Iterable[dict[str, object]]:
    for name, table in make_tables(all_series).items():
        if not table.empty:
            columns = [column.replace("_", " ") for column in table.columns]
            yield {"title": _TABLES[name], "columns": columns, "rows": text_rows(table)}


def _model(result: Result) -> dict[str, object]:
    config = result.config
    images = [
        {"image": _uri(file.read_bytes(), f"image/{file.suffix[1:]}"), "caption": caption, "style": "pixels"}
        for name, caption in _IMAGES.items()
        if (file := result.image(name)) is not None
    ]
    space = "Posterior means of validation samples, projected on their two leading principal components."
    images.append({"image": _figure(draw_latent_space(result)), "caption": space, "style": ""})
    size, active = result.answer["latent_dim"], result.last.get("active_units")
    run = f"{config.data.dataset}, {config.kind}, seed {config.training.seed}"
    title = f"The model: {run}, {size} dimensions, {active} active units"
    return {"title": title, "images": images}


def _settings(series: Series) -> dict[str, object]:
    config = series.config
    rule = "fixed size" if config.rule is None else f"rule {config.rule}"
    if config.compression is not None and not config.compression.stop:
        rule += ", without stop"
    title = f"{config.data.dataset}, {rule}, from {config.model.init_dim}, {_runs(len(series.seeds))}"
    commands = "\n".join(result.config.command for result in series.results)
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


def _figure(figure: Figure) -> str:
    content = io.BytesIO()
    figure.savefig(content, format="png", dpi=200)
    return _uri(content.getvalue(), "image/png")


def _uri(content: bytes, kind: str) -> str:
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
