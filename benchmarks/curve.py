"""Compare the curves of runs with models of fixed size that were trained as they were.

Its argument is the directory that holds the runs of ``experiments/curve.toml``.
"""

from __future__ import annotations

import sys
from pathlib import Path
from statistics import fmean

import pandas as pd

from aldvae.analysis.curve import comparable_grid, curve_table
from aldvae.analysis.grid_search import find_grids
from aldvae.analysis.series import group_by_seed
from aldvae.analysis.tables import markdown
from aldvae.runs.results import read_results


def compare(results_dir: Path) -> pd.DataFrame:
    """Return a row for each run with a curve and each size of its grid that the curve spans.

    ``grid`` is the mean loss over the grid's seeds, ``curve`` that of the curve, interpolated at a size that the curve
    skips, ``difference`` how far it lies above the grid (percent), and ``epochs`` how many the curve's model had.
    """
    all_series, _ = group_by_seed(read_results(results_dir))
    grids, rows = find_grids(all_series), []
    for series in all_series:
        grid = comparable_grid(series, grids)
        for result in series.results if grid is not None else ():
            assert grid is not None
            table = curve_table(result)
            sizes = [size for size in grid.sizes if size <= table.index.max()]
            full = table[["loss", "epoch"]].reindex(sorted({*table.index, *sizes})).interpolate("index")
            for size in reversed(sizes):
                fixed, curve = fmean(grid.values["loss"][size]), float(full["loss"][size])
                row = {"dataset": series.config.data.dataset, "seed": result.config.training.seed, "size": size}
                row |= {"epochs": int(full["epoch"][size]), "curve": round(curve, 2), "grid": round(fixed, 2)}
                rows.append(row | {"difference": round(100 * (curve / fixed - 1), 2)})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    print(markdown(compare(Path(sys.argv[1]))))
