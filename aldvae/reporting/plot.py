"""Figures and tables on disk, made from finished runs."""

from __future__ import annotations

from pathlib import Path

from aldvae.analysis.series import group_by_seed
from aldvae.analysis.tables import make_tables, write_tables
from aldvae.reporting.figures.ablation import draw_ablations
from aldvae.reporting.figures.curve import draw_curves
from aldvae.reporting.figures.grid_search import draw_yardsticks
from aldvae.reporting.figures.latent_space import draw_latent_spaces
from aldvae.reporting.figures.paper import draw_paper
from aldvae.reporting.figures.style import print_style, save
from aldvae.runs.results import read_results
from aldvae.utils.errors import ConfigError

FORMATS = ("png", "pdf")


def plot_results(results_dir: Path, output_dir: Path, formats: str) -> tuple[list[Path], list[str]]:
    """Write all figures and tables that the runs under `results_dir` allow, in the `formats` (such as ``png,pdf``).

    Returns the paths written, and a line for each thing that is missing. Raises `ConfigError` for an unknown format,
    and if no run is finished.
    """
    suffixes = [suffix.strip() for suffix in formats.split(",")]
    for suffix in suffixes:
        if suffix not in FORMATS:
            raise ConfigError("format", f"takes png, pdf or png,pdf, not {formats}")
    all_series, left_out = group_by_seed(read_results(results_dir))
    if not all_series:
        raise ConfigError("results_dir", f"{results_dir} holds no finished run; aldvae adaptive makes one")
    written: list[Path] = []
    with print_style():
        drawn = draw_paper(all_series) | draw_yardsticks(all_series) | draw_ablations(all_series)
        drawn.figures |= draw_curves(all_series) | draw_latent_spaces(all_series)
        for name, figure in drawn.figures.items():
            written += save(figure, output_dir / "figures" / name, suffixes)
    written += write_tables(make_tables(all_series), output_dir / "tables")
    return written, [*left_out, *drawn.missing]
