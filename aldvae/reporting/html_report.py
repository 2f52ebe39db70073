"""Everything about the runs under a directory as one HTML file that needs nothing else."""

from __future__ import annotations

import base64
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from aldvae.analysis.series import Series, series, variant
from aldvae.analysis.tables import cell, make_tables
from aldvae.reporting.figures.ablation import draw_variants
from aldvae.reporting.figures.grid_search import draw_yardsticks
from aldvae.reporting.figures.latent_space import draw_latent_space, shown_models
from aldvae.reporting.figures.paper import draw_paper, size_text
from aldvae.reporting.figures.style import print_style
from aldvae.runs.results import Result, read_results
from aldvae.utils.errors import ConfigError
from aldvae.utils.files import write_atomically

_CAPTIONS = {
    "figure2": "Metrics while the latent space shrinks to its smallest size; red: where the rule would have stopped.",
    "figure3": "The adaptive model, and a model that had the size found from the start.",
    "figure4": "The same rule from several initial sizes; Dim is the size each ended with.",
    "yardstick": "A grid search (mean over seeds, bars of one standard error; dashed: one above the best), the smallest"
    " size as good as the best (red), and the sizes that each method finds (hollow: reached, not found).",
    "variants": "What differences in settings change: the size each ends with.",
}
_TABLES = {
    "sizes": "Sizes found by each seed, and what the paper reports; in brackets: reached without a stop",
    "initial_sizes": "How far sizes found from different initial sizes lie apart",
    "adaptive_and_fixed": "Final metrics: adaptive, and fixed from the start at the size found",
    "cost": "The cost of the answer, for one seed",
    "yardstick": "The yardstick: the smallest size of a grid that is as good as the best, within one standard error",
    "methods": "What each method finds, its error against the yardstick, and its cost for one seed",
    "variants": "What differences in settings change, from the same initial size",
}
_IMAGES = {
    "reconstructions": "Validation samples above what the model makes of them.",
    "samples": "Samples from the prior.",
    "traversal": "A row for each latent dimension, those with the highest KL divergence first, from -2.5 to 2.5.",
}


def write_report(results_dir: Path, path: Path) -> None:
    """Write the report on all runs under `results_dir` to `path`; raises `ConfigError` where none is finished."""
    found, left_out = series(read_results(results_dir))
    if not found:
        raise ConfigError("results_dir", f"{results_dir} holds no finished run; aldvae adaptive makes one")
    with print_style():
        drawn = draw_paper(found) | draw_yardsticks(found) | draw_variants(found)
        content = {
            "title": f"Latent sizes: {', '.join(sorted({one.config.dataset for one in found}))}",
            "runs": sum(len(one.results) for one in found),
            "hardware": _hardware(found),
            "answers": list(_answers(found)),
            "figures": [{"image": _figure(f), "caption": _caption(name)} for name, f in drawn.figures.items()],
            "tables": list(_tables(found)),
            "models": [_model(result) for result in shown_models(found)],
            "settings": [_settings(one) for one in found],
            "missing": [*left_out, *drawn.missing],
        }
    templates = Environment(loader=PackageLoader("aldvae.reporting"), autoescape=True, undefined=StrictUndefined)
    write_atomically(path, templates.get_template("report.html").render(content))


def _answers(found: Sequence[Series]) -> Iterable[dict[str, str]]:
    for one in found:
        if one.config.kind == "adaptive" and one.config.stop:
            stops = [epoch for epoch in one.stops if epoch is not None]
            told = f"rule {one.config.rule}, from {one.config.init_dim}, {_runs(len(one.seeds))}"
            told += f"; {variant(one.config)}" if variant(one.config) else ""
            if not stops:
                how = f"{size_text(one.sizes)} dimensions were reached in {one.config.epochs} epochs; {told}"
                yield {"dataset": one.config.dataset, "size": "no size found", "how": how}
                continue
            when = f"at epoch {min(stops)}" + (f" to {max(stops)}" if len(set(stops)) > 1 else "")
            stopped = f", {len(stops)} of {len(one.stops)} stopped" if len(stops) < len(one.stops) else ""
            how = f"latent dimensions, {when}{stopped}; {told}"
            yield {"dataset": one.config.dataset, "size": size_text(one.found), "how": how}


def _runs(number: int) -> str:
    return "one seed" if number == 1 else f"{number} seeds"


def _tables(found: Sequence[Series]) -> Iterable[dict[str, Any]]:
    for name, table in make_tables(found).items():
        if not table.empty:
            rows = [[cell(value) for value in row] for row in table.itertuples(index=False)]
            yield {"title": _TABLES[name], "columns": [c.replace("_", " ") for c in table.columns], "rows": rows}


def _model(result: Result) -> dict[str, object]:
    config = result.config
    images = [
        {"image": _uri(file.read_bytes(), f"image/{file.suffix[1:]}"), "caption": caption, "style": "pixels"}
        for name, caption in _IMAGES.items()
        if (file := result.image(name)) is not None
    ]
    space = "Posterior means of validation samples on their two leading principal components."
    images.append({"image": _figure(draw_latent_space(result)), "caption": space, "style": ""})
    size, active = result.answer["latent_dim"], result.last.get("active_units")
    title = f"The model: {config.dataset}, {config.kind}, seed {config.seed}, {size} dimensions, {active} active units"
    return {"title": title, "images": images}


def _settings(one: Series) -> dict[str, Any]:
    config = one.config
    what = "fixed size" if config.kind == "fixed" else f"rule {config.rule}{'' if config.stop else ', without stop'}"
    title = f"{config.dataset}, {what}, from {config.init_dim}, {_runs(len(one.seeds))}"
    commands = "\n".join(result.config.command for result in one.results)
    return {"title": title, "commands": commands, "told": list(config.to_json().items())}


def _hardware(found: Sequence[Series]) -> str:
    """Return where the runs were made, according to their provenance."""
    places = {place for series in found for result in series.results for place in _places(result)}
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
