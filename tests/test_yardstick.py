from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldvae.analysis.ablation import ablation_table, find_ablations
from aldvae.analysis.comparison import comparison_table
from aldvae.analysis.grid_search import CRITERIA, find_grids, find_yardstick, yardstick_table
from aldvae.analysis.series import Series, group_by_seed
from aldvae.config.run_config import RunConfig
from aldvae.reporting.figures.ablation import draw_ablations
from aldvae.reporting.figures.grid_search import draw_yardsticks
from aldvae.reporting.figures.style import COLUMN, RED, print_style
from aldvae.reporting.html_report import write_report
from aldvae.reporting.plot import plot_results
from aldvae.runs.results import read_results
from tests.conftest import Cli, resolve

Values = dict[str, dict[int, list[float]]]

# Values are quarters, of two or four seeds: so means are exact, and comparisons do not depend on rounding.
quarters = st.integers(-400, 400).map(lambda n: n / 4)


@st.composite
def measured(draw: st.DrawFn) -> Values:
    """Draw the values of each metric at each size, one per seed."""
    sizes = draw(st.lists(st.integers(2, 64), min_size=2, max_size=5, unique=True))
    seeds = draw(st.sampled_from([2, 4]))
    metrics = draw(st.lists(st.sampled_from(CRITERIA), min_size=1, unique=True))
    numbers = st.lists(quarters, min_size=seeds, max_size=seeds)
    return {metric: {size: draw(numbers) for size in sizes} for metric in metrics}


def test_the_smallest_size_within_one_standard_error_of_the_best() -> None:
    # Best is 8, mean 10; of 8, 10, 12 the deviation is 2 and the standard error 2 / sqrt(3) = 1.1547.
    loss = {2: [20.0, 21.0, 22.0], 4: [11.1, 11.1, 11.1], 8: [8.0, 10.0, 12.0], 16: [10.5, 10.5, 10.5]}
    criterion = find_yardstick({"loss": loss}).criteria["loss"]
    assert criterion.best == 8
    assert criterion.limit == pytest.approx(10 + 2 / 3**0.5)
    assert criterion.good == [4, 8, 16]
    assert find_yardstick({"loss": loss}).size == 4
    assert find_yardstick({"loss": {**loss, 4: [11.2, 11.2, 11.2]}}).size == 8
    # The others' own spread does not make them good.
    assert find_yardstick({"loss": {**loss, 4: [0.0, 11.2, 22.4]}}).size == 8


def test_all_metrics_must_agree() -> None:
    tight = {2: 3.0, 4: 1.0, 8: 1.0, 16: 1.0}
    loss = {size: [value, value] for size, value in tight.items()}
    late = {2: [9.0, 9.0], 4: [9.0, 9.0], 8: [1.0, 1.0], 16: [1.0, 1.0]}
    early = {2: [1.0, 1.0], 4: [9.0, 9.0], 8: [9.0, 9.0], 16: [9.0, 9.0]}
    assert find_yardstick({"loss": loss, "fid_recon": late}).size == 8
    against = find_yardstick({"loss": loss, "fid_recon": late, "fid_gen": early})
    assert against.size is None
    assert [against.criteria[name].good[0] for name in CRITERIA] == [4, 8, 2]
    assert against.note == "no yardstick: the metrics disagree"


def test_without_a_standard_error_there_is_no_yardstick() -> None:
    alone = find_yardstick({"loss": {2: [1.0, 2.0], 4: [1.0]}})
    assert alone.size is None
    assert "two seeds" in alone.note


def test_the_ends_of_a_grid_are_noted() -> None:
    falling = {2: [9.0, 9.0], 4: [5.0, 5.0], 8: [1.0, 1.0]}
    rising = {2: [1.0, 1.0], 4: [5.0, 5.0], 8: [9.0, 9.0]}
    middle = {2: [9.0, 9.0], 4: [1.0, 1.0], 8: [9.0, 9.0]}
    assert find_yardstick({"loss": falling}).note.startswith("by loss only the largest size")
    assert find_yardstick({"loss": rising}).note.startswith("the smallest size")
    assert find_yardstick({"loss": middle}).note == ""


@given(measured(), st.floats(0, 10))
def test_a_worse_and_larger_size_changes_nothing(values: Values, worse: float) -> None:
    before = find_yardstick(values)
    added = {m: {**by, 65: [before.criteria[m].limit + 1 + worse] * 2} for m, by in values.items()}
    assert find_yardstick(added).size == before.size


@given(measured(), st.integers(-1000, 1000))
def test_a_constant_added_to_a_metric_changes_nothing(values: Values, constant: int) -> None:
    for metric in values:
        moved = {size: [value + constant for value in seeds] for size, seeds in values[metric].items()}
        assert find_yardstick({**values, metric: moved}).size == find_yardstick(values).size


@given(measured(), st.integers(1, 6))
def test_the_unit_of_a_metric_changes_nothing(values: Values, power: int) -> None:
    scaled = {m: {size: [v * 2**power for v in seeds] for size, seeds in by.items()} for m, by in values.items()}
    assert find_yardstick(scaled).size == find_yardstick(values).size


@given(measured(), st.randoms(use_true_random=False))
def test_the_order_of_seeds_and_sizes_changes_nothing(values: Values, random: Any) -> None:
    mixed = {
        metric: {size: random.sample(seeds, len(seeds)) for size, seeds in reversed(by_size.items())}
        for metric, by_size in values.items()
    }
    assert find_yardstick(mixed).size == find_yardstick(values).size


@given(measured())
def test_a_yardstick_is_good_by_every_metric_and_no_smaller_size_is(values: Values) -> None:
    found = find_yardstick(values)
    alone = [find_yardstick({metric: by}).size for metric, by in values.items()]
    if found.size is None:
        assert len(values) > 1
        return
    assert all(found.size >= size for size in alone if size is not None)
    assert all(found.size in criterion.good for criterion in found.criteria.values())
    for size in next(iter(values.values())):
        assert size >= found.size or any(size not in criterion.good for criterion in found.criteria.values())


def write_run(
    results: Path, config: RunConfig, stop: int | None = None, size: int | None = None, **final: float
) -> None:
    """Write a finished run with 100 training samples and 3 s per epoch, whose last row holds `final`."""
    path = results / config.name
    path.mkdir(parents=True)
    last: dict[str, Any] = {"epoch": config.training.epochs, "latent_dim": size or config.model.init_dim} | final
    rows = [{"epoch": epoch} for epoch in range(1, config.training.epochs)] + [last]
    pd.DataFrame(rows).to_csv(path / "metrics.csv", index=False)
    times = [
        {"epoch": epoch, "train_seconds": 2, "metrics_seconds": 1} for epoch in range(1, config.training.epochs + 1)
    ]
    pd.DataFrame(times).to_csv(path / "times.csv", index=False)
    summary = {
        "latent_dim": last["latent_dim"],
        "stop_epoch": stop,
        "stop_latent_dim": size,
        "epochs": config.training.epochs,
    }
    summary |= {
        "train_seconds": 2 * config.training.epochs,
        "metrics_seconds": config.training.epochs,
        "train_samples": 100,
    }
    (path / "config.json").write_text(json.dumps({"settings": config.to_json(), "inputs": {}}))
    (path / "summary.json").write_text(json.dumps({**summary, "final": last}))


LOSS = {4: 30.0, 8: 20.0, 16: 20.0}


def write_grid(results: Path, seeds: Sequence[int] = (0, 1, 2), **settings: Any) -> None:
    """Write runs of sizes 4, 8 and 16: good from 8 on by loss (beta 2) and `fid_recon`, all equal by `fid_gen`."""
    for size, loss in LOSS.items():
        for seed in seeds:
            config = resolve("fixed", "digits", init_dim=size, seed=seed, **{"epochs": 10, "beta": 2.0, **settings})
            write_run(
                results,
                config,
                recon_loss=loss - 2 * seed,
                kl=seed + 0.01 * seed,
                fid_recon=loss + seed,
                fid_gen=5.0 + seed,
                active_units=min(size, 9 + seed),
                dims_passive=max(0, size - 11 - seed),
            )


@pytest.fixture
def results(tmp_path: Path) -> Path:
    """Write a grid and adaptive runs with two sets of settings; return their directory."""
    results = tmp_path / "runs"
    write_grid(results, metrics_every=10)
    adaptive = resolve("adaptive", "digits", epochs=10, beta=2.0, init_dim=32)
    write_run(results, adaptive.override(seed=0), stop=6, size=9)
    write_run(results, adaptive.override(seed=1), stop=8, size=11)
    write_run(results, adaptive.override(seed=2), size=7)
    write_run(results, adaptive.override(patience=2, metrics_every=2, fid_features="none"), stop=4, size=8)
    return results


def series_of(results: Path) -> list[Series]:
    """Return the finished runs in a directory, grouped by seed."""
    return group_by_seed(read_results(results))[0]


def test_the_loss_is_that_of_the_runs_beta(results: Path) -> None:
    (grid,) = find_grids(series_of(results))
    assert grid.values["loss"] == {size: pytest.approx([loss, loss + 0.02, loss + 0.04]) for size, loss in LOSS.items()}
    assert grid.values["fid_gen"][4] == [5, 6, 7]


def test_the_table_holds_the_yardstick_and_each_metrics_size(results: Path) -> None:
    (row,) = yardstick_table(find_grids(series_of(results))).to_dict("records")
    assert (row["yardstick"], row["size_by_loss"], row["size_by_fid_recon"], row["size_by_fid_gen"]) == (8, 8, 8, 4)
    assert (row["sizes"], row["seeds"], row["note"]) == ("4 8 16", "3 3 3", "")
    assert (row["settings"], row["fid_features"]) == ("beta 2.0, epochs 10", "classifier")


def test_methods_are_measured_by_the_yardstick(results: Path) -> None:
    table = comparison_table(series_of(results)).set_index("method")
    assert list(table.index) == [
        "grid search",
        "active units",
        "FONDUE idea",
        "rule paper",
        "rule paper, patience 2, fid_features none, metrics_every 2",
    ]
    assert set(table["yardstick"]) == {8}
    assert table["sizes"].tolist() == ["8", "9 10 11", "11 12 13", "9 11 (7)", "8"]
    assert table["size_mean"].tolist() == [8, 10, 12, 10, 8]
    assert table["error"].tolist() == [0, 2, 4, 2, 0]
    assert table["found"].tolist() == ["1 of 1", "3 of 3", "3 of 3", "2 of 3", "1 of 1"]
    assert table.loc["rule paper", "size_deviation"] == pytest.approx(2**0.5, abs=1e-4)
    assert table["init_dim"].tolist() == [None, 16, 16, 32, 32]
    # Epochs per seed: three models of 10; a single one; the mean of 6, 8 and 10; 4. An epoch is 3 s and 100 images.
    assert table["epochs"].tolist() == [30, 10, 10, 8, 4]
    assert table["seconds"].tolist() == [90, 30, 30, 24, 12]
    assert table["images"].tolist() == [3000, 1000, 1000, 800, 400]


def test_a_model_without_a_dimension_to_spare_has_not_found_its_size(tmp_path: Path) -> None:
    for size in (4, 8):
        for seed, spare in ((0, 0), (1, 1)):
            config = resolve("fixed", "digits", epochs=1, init_dim=size, seed=seed)
            write_run(tmp_path, config, recon_loss=1, kl=1, active_units=size - spare, dims_passive=spare)
    table = comparison_table(series_of(tmp_path)).set_index("method")
    assert table["sizes"].tolist()[1:] == ["(8) 7", "(8) 7"]
    assert table["found"].tolist()[1:] == ["1 of 2", "1 of 2"]


@pytest.mark.parametrize("other", [{"epochs": 9}, {"beta": 1.0}, {"lr": 0.01}, {"limit": 900}, {"stop": False}])
def test_runs_with_other_training_are_not_measured_by_the_grid(results: Path, other: dict[str, Any]) -> None:
    adaptive = {"epochs": 10, "beta": 2.0, "init_dim": 24, **other}
    write_run(results, resolve("adaptive", "digits", **adaptive), stop=4, size=8)
    assert 24 not in comparison_table(series_of(results))["init_dim"].tolist()


def test_models_with_other_settings_are_another_grid(results: Path) -> None:
    write_grid(results, epochs=20)
    write_grid(results, fid_features="pca")
    # `metrics_every` does not affect training, so the models of seed 2 are those of the grid.
    write_grid(results, metrics_every=1, seeds=[2, 3])
    grids = [
        (grid.config.training.epochs, grid.config.metrics.fid_features, len(grid.points[0].seeds))
        for grid in find_grids(series_of(results))
    ]
    assert sorted(grids) == [(10, "classifier", 4), (10, "pca", 3), (20, "classifier", 3)]


def test_models_of_a_size_found_are_no_points_of_the_grid(results: Path) -> None:
    config = resolve("fixed", "digits", init_dim=9, epochs=10, beta=2.0)
    write_run(results, config, recon_loss=0, kl=0, fid_recon=0, fid_gen=0, active_units=9, dims_passive=0)
    (grid,) = find_grids(series_of(results))
    assert grid.sizes == [4, 8, 16]
    (single,) = find_grids(Series(point.results[:1]) for point in grid.points)
    assert single.sizes == [4, 8, 16]
    assert "two seeds" in yardstick_table([single])["note"][0]
    assert find_grids([grid.points[0]]) == []


def test_without_frechet_distances_the_loss_alone_decides(tmp_path: Path) -> None:
    for size, loss in LOSS.items():
        for seed in (0, 1):
            config = resolve("fixed", "digits", init_dim=size, seed=seed, epochs=1, fid_features="none")
            write_run(tmp_path, config, recon_loss=loss, kl=seed, active_units=2, dims_passive=2)
    (row,) = yardstick_table(find_grids(series_of(tmp_path))).to_dict("records")
    assert (row["yardstick"], row["size_by_fid_gen"]) == (8, None)
    (figure,) = draw_yardsticks(series_of(tmp_path)).figures.values()
    assert len(figure.axes) == 2


def test_the_figure_shows_yardstick_limit_and_answers(results: Path) -> None:
    with print_style():
        figure_set = draw_yardsticks(series_of(results))
    assert figure_set.missing == []
    ((name, figure),) = figure_set.figures.items()
    assert name == "yardstick-digits-beta-2.0-epochs-10"
    assert figure.get_figwidth() == COLUMN
    *panels, answers = figure.axes
    assert [axis.get_ylabel().split()[0] for axis in panels] == ["Loss", "Fréchet", "Fréchet"]
    for axis in figure.axes:
        (line,) = [line for line in axis.lines if line.get_color() == RED]
        assert line.get_xdata()[0] == 8  # type: ignore[index]
    marks = [(line.get_xdata()[0], line.get_fillstyle()) for line in answers.lines[:-1]]  # type: ignore[index]
    assert marks[6:] == [(9, "full"), (11, "full"), (7, "none"), (8, "full")]
    assert min(text.get_fontsize() for text in figure.findobj(_is_text)) >= 6  # type: ignore[attr-defined]


def _is_text(artist: Any) -> bool:
    return hasattr(artist, "get_fontsize") and bool(artist.get_text())


def test_a_missing_grid_is_reported_with_its_command(tmp_path: Path) -> None:
    for patience in (2, 5):
        config = resolve("adaptive", "digits", epochs=10, init_dim=24, patience=patience, seed=7)
        write_run(tmp_path, config, stop=4, size=8)
    (line,) = draw_yardsticks(series_of(tmp_path)).missing
    assert line.startswith("A yardstick needs a grid: aldvae grid --validation 0.3")
    assert line.endswith("--seeds 0,1,2,3,4")
    assert not any(option in line for option in ("--dims", "--init-dim", "--patience", "--seed 7"))
    write_grid(tmp_path, beta=1.0, seeds=[0])
    assert draw_yardsticks(series_of(tmp_path)).missing == [line]


def test_show_plot_and_report_contain_the_yardstick(results: Path, tmp_path: Path, cli: Cli) -> None:
    shown = cli("show", results).stdout
    assert "Yardsticks" in shown
    assert "size_by_fid_gen" in shown
    # The output for scripts is still a list of runs.
    assert len(json.loads(cli("show", results, "--json").stdout)) == len(read_results(results))
    assert len(cli("show", results, "--csv").stdout.splitlines()) == len(read_results(results)) + 1
    written = {path.name for path in plot_results(results, tmp_path / "out", "png")[0]}
    assert {"yardstick.csv", "yardstick.md", "methods.csv", "methods.md"} <= written
    assert "yardstick-digits-beta-2.0-epochs-10.png" in written
    lines = (tmp_path / "out" / "tables" / "yardstick.csv").read_text().splitlines()
    assert lines[1] == 'digits,"beta 2.0, epochs 10",classifier,4 8 16,3 3 3,8,8,8,4,'
    write_report(results, tmp_path / "report.html")
    page = (tmp_path / "report.html").read_text()
    assert "<h3>The yardstick: the smallest size" in page
    assert "<td>FONDUE idea</td>" in page
    assert "smallest size as good as the best (red)" in page


def test_series_of_an_ablation_are_named_by_their_differences(results: Path) -> None:
    (group,) = find_ablations(series_of(results))
    sizes = {"rule paper": (9, 11, 7), "rule paper, patience 2, fid_features none, metrics_every 2": (8,)}
    assert {name: series.sizes for name, series in group.items()} == sizes
    table = ablation_table(series_of(results)).set_index("variant")
    assert list(table["sizes"]) == ["9 11 (7)", "8"]
    assert list(table["stop_epochs"]) == ["6 8 -", "4"]


def test_the_figure_of_an_ablation_marks_the_sizes_found_and_reached(results: Path) -> None:
    with print_style():
        (figure,) = draw_ablations(series_of(results)).figures.values()
        marks = [(line.get_xdata()[0], line.get_fillstyle()) for line in figure.axes[0].lines]  # type: ignore[index]
    assert marks == [(9, "full"), (11, "full"), (7, "none"), (8, "full")]
    assert not draw_ablations([series for series in series_of(results) if series.config.kind == "fixed"]).figures
