from __future__ import annotations

import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from matplotlib.figure import Figure
from PIL import Image

from aldvae.analysis.series import (
    Series,
    describe,
    differences,
    fixed_size_config,
    group_by_seed,
    protocol_of,
    sweep_command,
)
from aldvae.analysis.tables import make_tables, markdown
from aldvae.config.execution import Execution
from aldvae.config.run_config import COMPRESSION_SETTINGS, RunConfig
from aldvae.models.build import build_vae
from aldvae.reporting.figures.paper import draw_paper, size_text
from aldvae.reporting.figures.style import COLUMN, PAGE, print_style
from aldvae.reporting.html_report import write_report
from aldvae.reporting.plot import plot_results
from aldvae.runs.results import read_results
from aldvae.training.artifacts import artifact_files
from aldvae.training.loop import run
from aldvae.utils.errors import ConfigError
from tests.conftest import Cli, digits, resolve, sweep

TINY: dict[str, Any] = {
    "limit": 200,
    "epochs": 8,
    "hidden_dim": 16,
    "fid_samples": 50,
    "silhouette_samples": 50,
}
RULE: dict[str, Any] = {"patience": 2, "window": 4, "slow_window": 8}
ALWAYS: dict[str, Any] = {f"threshold_{m}": float("-inf") for m in ("recon_loss", "silhouette", "fid_recon", "fid_gen")}


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Execute all runs that the figures need, with two seeds: without stop, from two sizes, at fixed sizes."""
    results_dir = tmp_path_factory.mktemp("results")
    jobs = sweep("seeds", "digits", seeds=[0, 1], init_dim=14, **TINY, **RULE, stop=False, **ALWAYS)
    jobs += sweep("sweep-init", "digits", sizes=[14, 12], seeds=[0, 1], **TINY, **RULE, **ALWAYS)
    jobs += sweep("grid", "digits", sizes=[2, 9], seeds=[0, 1], **TINY)
    for job in jobs:
        run(job.config, Execution(results_dir=results_dir, threads=1))
    return results_dir


def test_each_figure_shows_its_panels_legends_and_stops(results: Path) -> None:
    with print_style():
        figure_set = draw_paper(group_by_seed(read_results(results))[0])
    assert figure_set.missing == []
    label = "hidden-dim-16"
    figures = {name.partition("-")[0]: figure for name, figure in figure_set.figures.items()}
    assert sorted(figures) == ["figure2", "figure3", "figure4"]
    assert all(name.partition("-")[2].startswith(label) for name in figure_set.figures)
    for figure in figures.values():
        assert figure.axes[0].get_title().replace("\n", " ").startswith("digits, limit 200, epochs 8")
    panels = figures["figure2"].axes
    assert len(panels) == 4
    for axis in panels:
        red = [line for line in axis.lines if line.get_color() == "#d62728"]
        assert [line.get_xdata()[0] for line in red] == [4, 4]  # type: ignore[index]
    (upper,) = panels[0].child_axes
    assert [text.get_text() for text in upper.get_xticklabels()][:2] == ["14", "9"]
    assert _legend(figures["figure3"]) == ["fixed size", "adaptive"]
    assert _legend(figures["figure4"]) == ["ALD_1 (Dim=9.0±0.0), from 14", "ALD_2 (Dim=7.0±0.0), from 12"]
    for figure in figures.values():
        assert [axis.get_ylabel().split()[0] for axis in figure.axes] == [
            "Fréchet",
            "Fréchet",
            "Silhouette",
            "Reconstruction",
        ]
        assert "classifier features" in figure.axes[0].get_ylabel()


def test_the_protocol_is_told_whatever_the_size_of_the_experiment() -> None:
    smaller: dict[str, Any] = {"limit": 5000, "epochs": 40, "silhouette_samples": 500, "precision": "bfloat16"}
    authors = resolve("adaptive", "eurosat", protocol="authors", **smaller)
    assert protocol_of(authors) == "authors"
    assert sorted(differences(authors, protocol="authors")) == sorted(
        [f"{name} {value}" for name, value in smaller.items()]
    )
    assert protocol_of(resolve("fixed", "eurosat", protocol="authors", **smaller)) == "authors"
    assert protocol_of(resolve("adaptive", "mnist", protocol="recommended", init_dim=30)) == "recommended"
    assert protocol_of(resolve("adaptive", "mnist", protocol="authors", posterior="gaussian")) == "paper"
    assert protocol_of(resolve("adaptive", "mnist")) == "paper"


def _legend(figure: Figure) -> list[str]:
    legend = figure.axes[0].get_legend()
    assert legend is not None
    return [text.get_text() for text in legend.get_texts()]


def test_the_curve_is_the_mean_over_seeds(results: Path) -> None:
    (series,) = [
        s
        for s in group_by_seed(read_results(results))[0]
        if s.config.kind == "adaptive" and not s.config.settings["stop"]
    ]
    tables = [pd.read_csv(r.path / "metrics.csv")["recon_loss"] for r in series.results]
    expected = (tables[0] + tables[1]) / 2
    with print_style():
        figures = draw_paper([series]).figures
    axis = next(figure for name, figure in figures.items() if name.startswith("figure2")).axes[3]
    curve = next(line for line in axis.lines if line.get_color() == "#0072b2")
    assert np.allclose(np.asarray(curve.get_ydata(), dtype=float), expected)


def test_figures_are_readable_in_print_and_the_same_each_time(results: Path, tmp_path: Path) -> None:
    written, missing = plot_results(results, tmp_path / "first", "png,pdf")
    assert missing == []
    again, _ = plot_results(results, tmp_path / "second", "png,pdf")
    assert [path.read_bytes() for path in written] == [path.read_bytes() for path in again]
    for path in written:
        if path.suffix == ".pdf":
            content = path.read_bytes()
            # TrueType, embedded.
            assert b"/FontFile2" in content
            assert b"/Type3" not in content
        elif "figure" in path.stem:
            with Image.open(path) as image:
                assert image.width in (int(COLUMN * 200), int(PAGE * 200))
    with print_style():
        for figure in draw_paper(group_by_seed(read_results(results))[0]).figures.values():
            assert figure.get_figwidth() in (COLUMN, PAGE)
            assert min(text.get_fontsize() for text in figure.findobj(_is_text)) >= 6  # type: ignore[attr-defined]


def _is_text(artist: Any) -> bool:
    return hasattr(artist, "get_fontsize") and bool(artist.get_text())


def test_a_missing_run_is_reported_with_the_command_that_executes_it(results: Path) -> None:
    found = group_by_seed(read_results(results))[0]
    stopped = [
        s for s in found if s.config.kind == "adaptive" and s.config.settings["stop"] and s.config.model.init_dim == 14
    ]
    missing = draw_paper(stopped).missing
    assert [line.partition(":")[0] for line in missing] == [
        "Figure 2 needs a run without stop",
        "Figure 3 needs a model of the size found",
        "Figure 3 needs a model of the size found",
        "Figure 4 needs several initial sizes",
    ]
    assert "aldvae adaptive" in missing[0]
    assert "--no-stop" in missing[0]
    assert "aldvae grid" in missing[1]
    assert "--dims 9 " in missing[1]
    assert "aldvae sweep-init" in missing[3]
    assert draw_paper([s for s in found if s.config.kind == "fixed"]).missing[0].startswith("no finished adaptive run")


def test_tables_agree_with_the_runs(results: Path) -> None:
    found = group_by_seed(read_results(results))[0]
    tables = make_tables(found)
    sizes = tables["sizes"].set_index("init_dim")
    assert sizes.loc[14, "sizes"] == "9 9"
    assert sizes.loc[14, "seeds"] == "0 1"
    assert tables["initial_sizes"]["size_means"].tolist() == ["9 7"]
    assert tables["initial_sizes"]["spread"].tolist() == [2]
    assert sizes.loc[12, "size_mean"] == 7
    assert sizes.loc[14, "stop_epoch_mean"] == 4
    both = tables["adaptive_and_fixed"].set_index("metric")
    assert set(both["init_dim"]) == {14}
    (nine,) = [s for s in found if s.config.kind == "fixed" and s.config.model.init_dim == 9]
    assert both.loc["recon_loss", "fixed"] == pytest.approx(np.mean(nine.final("recon_loss")), abs=1e-4)
    assert "fid_gen (classifier)" in both.index
    cost = tables["cost"].set_index("init_dim")
    assert cost.loc[14, "grid_sizes"] == "2 9"
    assert cost.loc[14, "epochs_ratio"] == 2
    assert cost.loc[14, "images_adaptive"] == 8 * 140
    assert markdown(tables["sizes"]).splitlines()[1].count("---") == len(tables["sizes"].columns)


def test_settings_are_described_by_their_differences() -> None:
    config = resolve("adaptive", "mnist")
    assert describe(config) == ""
    assert describe(config.override(epochs=40, seed=3, init_dim=80)) == "epochs 40"
    assert describe(config.override(patience=10, beta=4.0)) == "beta 4.0, patience 10"
    assert describe(resolve("adaptive", "mnist", rule="robust")) == ""
    assert describe(config.override(patience=10, beta=4.0), COMPRESSION_SETTINGS) == "beta 4.0"
    assert fixed_size_config(config.override(patience=10, stop=False), 12) == resolve("fixed", "mnist", init_dim=12)
    assert size_text([7]) == "7"
    assert size_text([6, 8]) == "7.0±1.4"


def test_plots_need_neither_models_nor_checkpoints(results: Path, tmp_path: Path) -> None:
    copy = shutil.copytree(results, tmp_path / "copy")
    for model in copy.glob("*/model.safetensors"):
        model.unlink()
    assert plot_results(copy, tmp_path, "png")[0]


def test_the_cost_counts_only_grid_sizes_with_all_seeds(results: Path) -> None:
    found, _ = group_by_seed(read_results(results))
    (nine,) = [s for s in found if s.config.kind == "fixed" and s.config.model.init_dim == 9]
    fewer = [*(s for s in found if s is not nine), Series(nine.results[:1])]
    assert set(make_tables(fewer)["cost"]["grid_sizes"]) == {"2"}


def test_copied_and_damaged_runs_are_reported_and_renamed_ones_are_read(results: Path, tmp_path: Path) -> None:
    first, second, third = sorted(path for path in results.iterdir() if "fixed" in path.name)[:3]
    shutil.copytree(first, tmp_path / "a" / first.name)
    shutil.copytree(first, tmp_path / "b" / first.name)
    shutil.copytree(second, tmp_path / "renamed")
    (shutil.copytree(third, tmp_path / third.name) / "metrics.csv").write_bytes(b"epoch\n\xff\n")
    found, left_out = group_by_seed(read_results(tmp_path))
    assert sum(len(series.results) for series in found) == 2
    assert len(left_out) == 2
    assert "is a copy" in left_out[0] + left_out[1]
    assert "is damaged" in left_out[0] + left_out[1]
    (tmp_path / "renamed" / "summary.json").write_text("null")
    assert {result.state for result in read_results(tmp_path)} == {"finished", "unfinished"}


def test_settings_of_all_kinds_can_be_drawn(tmp_path: Path) -> None:
    settings = {
        **TINY,
        **RULE,
        "min_dim": 3,
        "fid_features": "none",
        "beta": 2.0,
        "lr": 2e-3,
        "batch_size": 32,
        "step": 2,
    }
    settings |= {"silhouette_on": "means", "silhouette_groups": "classes", "validation": 0.4, "select": "last"}
    for init_dim in (8, 6):
        config = resolve("adaptive", "digits", **settings, init_dim=init_dim, seed=1)
        run(config, Execution(results_dir=tmp_path))
    written, missing = plot_results(tmp_path, tmp_path, "png")
    assert any("figure4" in path.name for path in written)
    assert all(len(path.name) < 120 for path in written)
    assert any("--no-stop" in line for line in missing)


def test_commands_of_missing_sweeps_are_valid() -> None:
    command = sweep_command(resolve("adaptive", "digits", seed=3, beta=4.0), "sweep-init", [3, 5])
    assert command.startswith("aldvae sweep-init --validation")
    assert command.endswith("--seeds 3,5")
    assert "--beta 4.0" in command
    assert "--seed 3" not in command
    assert "--init-dim " not in command


def test_invalid_requests_are_refused(results: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="--format takes png, pdf"):
        plot_results(results, tmp_path, "png,jpg")
    with pytest.raises(ConfigError, match="holds no finished run"):
        plot_results(tmp_path, tmp_path, "png")
    with pytest.raises(ConfigError, match="is not there"):
        write_report(tmp_path / "nowhere", tmp_path / "report.html")


def test_images_show_the_model(results: Path) -> None:
    for result in read_results(results):
        with Image.open(result.path / "reconstructions.png") as image:
            # Two rows of ten digits of 8 x 8, a white line between them, enlarged six times.
            assert image.size == (10 * 54 - 6, 2 * 54 - 6)
        points = pd.read_csv(result.path / "latent_space.csv")
        assert len(points) == 60
        assert points["component_1"].var() >= points["component_2"].var()


def test_originals_and_traversals_have_their_places_in_the_images() -> None:
    validation = digits(200).validation
    config = resolve("adaptive", "digits", **TINY)
    model = build_vae(validation.shape, 3, network="mlp", hidden_dim=16).train()
    files = artifact_files(model, config, validation)
    assert model.training
    assert artifact_files(model, config, validation) == files
    grid = _pixels(files["reconstructions.png"])
    for column in range(10):
        shown = grid[3:48:6, 54 * column + 3 : 54 * column + 48 : 6]
        assert np.array_equal(shown, validation.x[column, 0].numpy())
    traversal = _pixels(files["traversal.png"])
    assert traversal.shape == (3 * 54 - 6, 9 * 54 - 6)


def _pixels(content: bytes) -> np.ndarray:
    import io

    return np.asarray(Image.open(io.BytesIO(content)))


def test_video_gives_animations_and_vectors_give_no_images(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    for name, x in (
        ("video", random.random((40, 4, 8, 8, 3), dtype=np.float32)),
        ("vectors", random.normal(size=(40, 5))),
    ):
        np.save(tmp_path / f"{name}.npy", x)
        settings: dict[str, Any] = {"clusters": 3, "epochs": 1, "validation": 0.4, "fid_features": "none"}
        settings |= {"silhouette_samples": 16} | ({"channels": 4, "init_dim": 8} if name == "video" else {})
        execution = Execution(results_dir=tmp_path, own_data=tmp_path / f"{name}.npy")
        path = run(resolve("adaptive", str(tmp_path / f"{name}.npy"), execution, **settings), execution).path
        if name == "video":
            with Image.open(path / "reconstructions.gif") as animation:
                assert animation.n_frames == 4  # type: ignore[attr-defined]
        else:
            assert [file.suffix for file in path.glob("*.png")] == []
        assert (path / "latent_space.csv").exists()


def test_plot_and_report_on_the_command_line(cli: Cli, results: Path, tmp_path: Path) -> None:
    completed = cli("plot", results, "--output-dir=out", "--format=png")
    assert completed.returncode == 0, completed.stderr
    for line in completed.stdout.splitlines():
        assert (tmp_path / line).is_file()
    assert cli("report", results, "--output=out/report.html").stdout == "out/report.html\n"
    assert cli("plot", "nowhere").returncode == 2


@pytest.fixture(scope="module")
def page(results: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("report") / "report.html"
    write_report(results, path)
    return path


def test_the_report_is_self_contained_and_contains_the_size_found(page: Path, results: Path) -> None:
    text = page.read_text()
    # References within the page are those of its figures.
    assert not re.findall(r"""(?:src|href)=["'](?!data:|#f\d+-)""", text)
    assert "9.0±0.0" in text
    # The images of the model, and beside the charts of the answers the paper's three figures and that of variants.
    assert text.count("data:image/png") >= 3
    assert text.count('<svg fill="currentColor"') == 4
    assert text.count('<figure class="chart">') >= 4
    for series in group_by_seed(read_results(results))[0]:
        assert series.config.command.split(" --limit")[0] in text
    assert str(results) not in text


def test_the_report_names_no_size_that_no_rule_found(tmp_path: Path) -> None:
    path = run(resolve("adaptive", "digits", **TINY, **RULE, init_dim=8), Execution(results_dir=tmp_path)).path
    write_report(tmp_path, tmp_path / "report.html")
    text = (tmp_path / "report.html").read_text()
    assert "no size found" in text
    assert f"{pd.read_csv(path / 'metrics.csv')['latent_dim'].iloc[-1]} dimensions were reached in 8 epochs" in text


def test_the_name_of_a_dataset_is_escaped_in_the_report(tmp_path: Path) -> None:
    np.savez(tmp_path / "<b>x.npz", x=np.random.default_rng(0).normal(size=(60, 4)))
    settings: dict[str, Any] = {"clusters": 3, "epochs": 1, "validation": 0.4, "fid_features": "none"}
    execution = Execution(results_dir=tmp_path / "runs", own_data=tmp_path / "<b>x.npz")
    run(resolve("adaptive", str(tmp_path / "<b>x.npz"), execution, **settings, silhouette_samples=16), execution)
    write_report(tmp_path / "runs", tmp_path / "report.html")
    assert "<b>x" not in (tmp_path / "report.html").read_text()


@pytest.mark.parametrize("width", [500, 1200])
def test_a_browser_finds_no_error_in_the_report(page: Path, tmp_path: Path, width: int) -> None:
    browser = next(
        (path for name in ("chromium", "chromium-browser", "google-chrome") if (path := shutil.which(name))), None
    )
    if browser is None:
        if os.environ.get("ALDVAE_REQUIRE_DATA"):
            pytest.fail("CI needs Chromium")
        pytest.skip("Chromium is not installed")
    command = [browser, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr", "--v=0"]
    command += [f"--user-data-dir={tmp_path}", f"--window-size={width},2000", f"--screenshot={tmp_path / 'page.png'}"]
    shown = subprocess.run([*command, page.as_uri()], capture_output=True, text=True, timeout=90)
    assert "CONSOLE" not in shown.stderr
    with Image.open(tmp_path / "page.png") as image:
        assert image.width == width
        # Text and figures, not an empty page.
        assert np.asarray(image.convert("L")).std() > 10


def test_tensorboard_holds_the_columns_and_images(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    config: RunConfig = resolve("adaptive", "digits", **TINY, init_dim=8)
    path = run(config, Execution(results_dir=tmp_path, tensorboard=True)).path
    events = EventAccumulator(str(path)).Reload()
    metrics = pd.read_csv(path / "metrics.csv")
    assert sorted(events.Tags()["images"]) == ["reconstructions", "samples", "traversal"]
    for name in ("recon_loss", "latent_dim", "fid_gen"):
        scalars = [(event.step, event.value) for event in events.Scalars(name)]
        assert [step for step, _ in scalars] == metrics["epoch"].tolist()
        assert np.allclose([value for _, value in scalars], metrics[name], rtol=1e-5)
