"""The answer of a series of runs as HTML: the sentences, the curve beside them, and the course below."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from jinja2 import Environment, PackageLoader, StrictUndefined

from aldvae.analysis.answers import answer_sentences, headline_sizes
from aldvae.analysis.grid_search import Grid
from aldvae.analysis.series import Series, describe
from aldvae.reporting.charts import Chart
from aldvae.reporting.figures.paper import size_text
from aldvae.reporting.run_charts import course_charts, curve_charts
from aldvae.runs.results import Result

# Of the user's own data, these settings come from the data, unless the user sets them.
_FROM_DATA = (
    *("source", "validation", "clusters", "network", "hidden_dim", "likelihood", "scale", "standardise", "warmup"),
    *("epochs", "batch_size", "fid_features", "fid_samples", "silhouette_samples"),
)


def environment() -> Environment:
    """Return the templates."""
    return Environment(
        loader=PackageLoader("aldvae.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )


@dataclass(frozen=True, kw_only=True)
class AnswerView:
    """What the template ``answer.html`` shows: `size` is the number, `unit` what it counts."""

    dataset: str
    settings: str
    size: str
    unit: str
    sentences: Sequence[str]
    curve: Sequence[Chart]
    course: Sequence[Chart]

    @property
    def is_wide(self) -> bool:
        """Whether it has charts."""
        return bool(self.curve or self.course)

    @classmethod
    def make(cls, series: Series, grids: Sequence[Grid] = (), *, with_course: bool = True) -> AnswerView:
        """Return the answer of adaptive runs; those of `grids` that can be compared are drawn over their curves."""
        sizes = headline_sizes(series)
        return cls(
            dataset=series.config.data.dataset,
            settings=settings_text(series),
            size=size_text(sizes) if sizes else "no size found",
            unit="" if not sizes else "latent dimension" if sizes == [1] else "latent dimensions",
            sentences=answer_sentences(series),
            curve=curve_charts(series, grids),
            course=course_charts(series) if with_course else [],
        )


def settings_text(series: Series) -> str:
    """Return rule, start, number of seeds and all unusual settings of a series."""
    seeds = "one seed" if len(series.seeds) == 1 else f"{len(series.seeds)} seeds"
    unusual = describe(series.config, _FROM_DATA) if series.config.data.source else describe(series.config)
    parts = [f"rule {series.config.rule}, from {series.config.model.init_dim}, {seeds}", unusual]
    return "; ".join(part for part in parts if part)


def answer_fragment(result: Result) -> str:
    """Return the answer of a finished adaptive run as a piece of HTML for a notebook, with style and script."""
    template = environment().get_template("fragment.html")
    return template.render(answer=AnswerView.make(Series((result,))))
