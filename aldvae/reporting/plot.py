"""From results to figures and tables on disk."""

from __future__ import annotations

from pathlib import Path

from aldvae.analysis.series import series
from aldvae.analysis.tables import make_tables, write_tables
from aldvae.reporting.figures.ablation import draw_variants
from aldvae.reporting.figures.grid_search import draw_yardsticks
from aldvae.reporting.figures.latent_space import draw_latent_spaces
from aldvae.reporting.figures.paper import draw_paper
from aldvae.reporting.figures.style import print_style, save
from aldvae.runs.results import read_results
from aldvae.utils.errors import ConfigError

FORMATS = ("png", "pdf")


def plot_results(results_dir: Path, output_dir: Path, formats: str) -> tuple[list[Path], list[str]]:
    """Write all figures and tables that the runs under `results_dir` allow.

    Returns the paths written, and a line for each thing that is missing. Raises `ConfigError` for an unknown format,
    and where there is no run at all.
    """
    kinds = [kind.strip() for kind in formats.split(",")]
    for kind in kinds:
        if kind not in FORMATS:
            raise ConfigError("format", f"takes png, pdf or png,pdf, not {formats}")
    found, left_out = series(read_results(results_dir))
    if not found:
        raise ConfigError("results_dir", f"{results_dir} holds no finished run; aldvae adaptive makes one")
    written: list[Path] = []
    with print_style():
        drawn = draw_paper(found) | draw_yardsticks(found) | draw_variants(found)
        drawn.figures |= draw_latent_spaces(found)
        for name, figure in drawn.figures.items():
            written += save(figure, output_dir / "figures" / name, kinds)
    written += write_tables(make_tables(found), output_dir / "tables")
    return written, [*left_out, *drawn.missing]
