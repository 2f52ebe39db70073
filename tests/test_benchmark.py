"""The problems of the benchmark, the peers that are compared on them, and the tables of the results."""

from __future__ import annotations

from collections.abc import Iterator
from math import log
from pathlib import Path

import benchmark_data
import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from peers import ard_vae, estimators, figure, fondue, oversized, run, scan, table
from peers.problems import COLUMNS, Cost, Problem, final_loss, find_problems, known_factors, problem_key
from torch import nn

from aldvae.config.execution import Execution
from aldvae.models.likelihood import Gaussian
from aldvae.models.vae import VAE, Network
from aldvae.sweeps.jobs import Job
from aldvae.sweeps.plan_file import load_plan
from aldvae.training.loop import run as execute

PLAN = Path(__file__).parents[1] / "experiments" / "benchmark.toml"


@pytest.mark.parametrize("n_factors", [3, 8, 15])
def test_linear_data_have_so_many_directions_above_the_noise(n_factors: int) -> None:
    x = benchmark_data.linear(n_factors)
    assert x.shape == (4000, 64)
    # Standardised, as in a run: the noise of all 64 values is the same, 0.01 of the signal's variance.
    variances = np.linalg.eigvalsh(np.corrcoef(x.T))[::-1]
    noise = variances[n_factors:].mean()
    assert noise == pytest.approx(0.01 / 1.01, rel=0.1)
    assert (variances > 3 * noise).sum() == n_factors


def test_curved_data_fill_more_directions_than_they_have_factors() -> None:
    x = benchmark_data.curved(3)
    variances = np.linalg.eigvalsh(np.cov(x.T))
    assert (variances > 3 * np.median(variances)).sum() > 3


def test_images_of_factors_vary_in_their_factors_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(benchmark_data, "PIXEL_NOISE", 0.0)
    brightest = {n: benchmark_data.factors(n, 200).max(axis=(1, 2)) for n in (3, 4, 5)}
    darkest = {n: benchmark_data.factors(n, 200).min(axis=(1, 2)) for n in (3, 4, 5)}
    # The fourth factor is the brightness of the blob, the fifth the strength of a gradient that starts at zero.
    assert brightest[3].std() < 0.03 < brightest[4].std()
    assert np.ptp(darkest[4]) < 0.1
    right = benchmark_data.factors(5, 200)[:, :, -1].min(axis=1)
    assert np.ptp(right) > 0.2


def test_data_are_the_same_each_time_and_not_written_twice(tmp_path: Path) -> None:
    names = ["cancer", "wide"]
    benchmark_data.write(tmp_path, names)
    first = {name: np.load(tmp_path / f"{name}.npz")["x"] for name in names}
    assert {name: x.shape for name, x in first.items()} == {"cancer": (569, 30), "wide": (200, 500)}
    (tmp_path / "wide.npz").unlink()
    (tmp_path / "cancer.npz").write_text("mine")
    benchmark_data.write(tmp_path, names)
    assert np.array_equal(np.load(tmp_path / "wide.npz")["x"], first["wide"])
    assert (tmp_path / "cancer.npz").read_text() == "mine"


@pytest.fixture
def jobs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Job]:
    """Return the jobs of the plan, with small data in the place of the benchmark's."""
    monkeypatch.chdir(tmp_path)
    folder = tmp_path / "runs" / "benchmark-data"
    folder.mkdir(parents=True)
    random = np.random.default_rng(0)
    for name in benchmark_data.MAKERS:
        shape = (60, 16, 16) if name.startswith(("gray", "factors")) else (60, 5)
        np.savez(folder / f"{name}.npz", x=random.uniform(size=shape))
    return load_plan(PLAN).jobs(Execution()).jobs


def test_every_problem_of_the_plan_has_a_grid_and_starts_far_apart(jobs: list[Job]) -> None:
    problems = find_problems(jobs, Execution())
    assert len({problem.name for problem in problems}) == len(problems) >= 14
    adaptive = [job.config for job in jobs if job.config.compression is not None]
    for problem in problems:
        assert len(problem.seeds) == 3
        assert len(problem.sizes) >= 5
        assert problem.largest == max(problem.sizes) >= 4 * problem.sizes[0]
        own = [config for config in adaptive if problem_key(config) == problem_key(problem.config)]
        starts = {config.model.init_dim for config in own}
        # A start of 4 is below the answer.
        assert max(starts) >= 4 * min(starts - {4})


def test_the_names_of_the_problems_tell_how_many_factors_are_known(jobs: list[Job]) -> None:
    known = {problem.name: known_factors(problem.config) for problem in find_problems(jobs, Execution())}
    assert {name: n for name, n in known.items() if n} == {
        **{f"{kind}{n}": n for kind in ("linear", "curved") for n in (3, 8, 15)},
        **{f"factors{n}": n for n in (2, 3, 5)},
    }


@given(st.integers(2, 200), st.integers(2, 256))
def test_the_scan_stops_when_the_loss_does_and_looks_on_both_sides(best: int, largest: int) -> None:
    losses = scan.scan(lambda size: abs(log(size / best)), largest)
    answer = min(losses, key=lambda size: losses[size])
    doubled = [2**n for n in range(1, 9) if 2**n <= largest]
    assert max(losses) <= largest
    # It stops one doubling above the best, which is at most a factor of 1.5 away unless `largest` is in the way.
    assert all(size <= 4 * best for size in losses)
    assert abs(log(answer / min(best, doubled[-1]))) <= log(1.5) + 1e-9


def test_the_scan_trains_no_size_twice() -> None:
    tried: list[int] = []

    def loss(size: int) -> float:
        tried.append(size)
        return abs(log(size / 12))

    assert list(scan.scan(loss, 64)) == tried == [2, 4, 8, 16, 32, 12, 24]


@given(st.integers(0, 300), st.integers(1, 300), st.integers(2, 300))
def test_fondue_finds_the_last_size_without_passive_dimensions(needed: int, start: int, largest: int) -> None:
    tried: list[int] = []

    def passive(size: int) -> float:
        tried.append(size)
        return float(max(0, size - needed))

    assert fondue.search(passive, start, 0.5, largest) == min(needed, largest)
    assert len(tried) == len(set(tried)) <= 20


def test_the_prior_of_ard_vae_has_the_variance_of_the_samples() -> None:
    z = torch.tensor([[3.0, 0.0], [-1.0, 0.0]])
    assert ard_vae.prior_variance(z).tolist() == pytest.approx([5.0, 1e-8])
    mu, log_var, variance = torch.randn(4, 3), torch.randn(4, 3), torch.tensor([0.5, 1.0, 2.0])
    posterior = torch.distributions.Normal(mu, torch.exp(0.5 * log_var))
    prior = torch.distributions.Normal(torch.zeros(3), variance.sqrt())
    expected = torch.distributions.kl_divergence(posterior, prior)
    torch.testing.assert_close(ard_vae.kl_divergence(mu, log_var, variance), expected)


@pytest.mark.parametrize(("scores", "count"), [([50, 49.5, 0.5], 2), ([1, 98, 1], 2), ([1, 1, 1, 1], 4), ([0, 7], 1)])
def test_the_relevant_axes_are_the_fewest_that_hold_the_scores(scores: list[float], count: int) -> None:
    assert ard_vae.relevant_axes(torch.tensor(scores)) == count


def test_the_derivatives_of_a_linear_decoder_are_its_columns() -> None:
    torch.manual_seed(0)
    model = VAE(Network(nn.Identity(), 5, nn.Identity(), 5), 3, Gaussian())
    expected = model.reader.weight.square().sum(0)
    torch.testing.assert_close(ard_vae.squared_derivatives(model, torch.randn(20, 5)), expected, rtol=1e-3, atol=1e-4)


def test_principal_components_count_directions() -> None:
    x = np.random.default_rng(0).normal(size=(500, 3)) @ np.eye(3, 10)
    assert estimators.variance_dimension(x) == 3
    assert estimators.variance_dimension(x * np.array([1, 1, 1e-3, *[1] * 7])) == 2


def test_intrinsic_dimensions_of_a_gaussian_are_its_dimensions() -> None:
    pytest.importorskip("skdim", reason="scikit-dimension is optional")
    x = np.random.default_rng(0).normal(size=(2000, 4)) @ np.random.default_rng(1).normal(size=(4, 30))
    assert estimators.mle_dimension(x) == pytest.approx(4, abs=0.5)
    assert estimators.two_nn_dimension(x) == pytest.approx(4, abs=0.5)


TINY = """
[defaults]
protocol = "recommended"
seeds = "0-1"
clusters = 2
silhouette_samples = 10
fid_features = "none"
hidden_dim = 16
validation = 0.1
epochs = 12

[[sweep]]
kind = "grid"
datasets = ["linear2.npz"]
dims = [2, 3, 8]
metrics_every = 6

[[sweep]]
kind = "sweep-init"
datasets = ["linear2.npz"]
init_dims = [4, 8]
"""


@pytest.fixture(scope="module")
def results(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a folder with the runs of a tiny plan, ``tiny.toml``, which lies beside the folder."""
    with pytest.MonkeyPatch.context() as patch:
        root = tmp_path_factory.mktemp("benchmark")
        patch.chdir(root)
        np.savez(root / "linear2.npz", x=benchmark_data.linear(2, 400, 8))
        (root / "tiny.toml").write_text(TINY)
        execution = Execution(results_dir=root / "results", device="cpu", own_data=root / "linear2.npz")
        for job in load_plan(root / "tiny.toml").jobs(execution).jobs:
            execute(job.config, execution)
        yield root / "results"


def tiny_problem(results: Path) -> Problem:
    execution = Execution(results_dir=results, device="cpu")
    (problem,) = find_problems(load_plan(results.parent / "tiny.toml").jobs(execution).jobs, execution)
    return problem


def test_an_oversized_model_is_read_from_its_run(results: Path) -> None:
    problem = tiny_problem(results)
    result = problem.trained(8, 1)
    last = result.latent[result.latent["epoch"] == 12]
    answer = oversized.kl_divergence(problem, 1)
    assert answer.size == max(2, (last["kl"] > 0.1).sum())
    assert answer.cost == Cost(12 * 360, result.seconds)
    assert not answer.is_trained
    assert oversized.active_units(problem, 1).size == max(2, result.metrics["active_units"].iloc[-1])


def test_the_scan_costs_all_models_that_it_trains_and_reuses_the_grids(results: Path) -> None:
    problem = tiny_problem(results)
    answer = scan.ascending_scan(problem, 0)
    tried = [path.name for path in (results / "peers").glob("*-seed0-*")]
    assert not any("-dim2-" in name or "-dim3-" in name for name in tried)
    assert answer.is_trained
    assert answer.cost.images % (12 * 360) == 0
    assert answer.cost.images >= 3 * 12 * 360
    assert final_loss(problem.trained(answer.size, 0)) <= final_loss(problem.trained(2, 0))


def test_ard_vae_counts_the_axes_that_a_linear_manifold_needs(results: Path) -> None:
    tiny = tiny_problem(results)
    longer = Problem(tiny.config.override(epochs=200), tiny.sizes, tiny.seeds, tiny.execution)
    answer = ard_vae.ard_vae(longer, 0)
    assert (answer.size, answer.found, answer.cost.images) == (2, True, 200 * 360)


def test_peers_are_asked_once_and_again_when_the_problem_changes(
    results: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    cheap = {name: peer for name, peer in run.PEERS.items() if name in ("active units", "95% of the variance")}
    monkeypatch.setattr(run, "PEERS", cheap)
    command = [str(results), "--plan", str(results.parent / "tiny.toml")]
    run.main(command)
    rows = pd.read_csv(results / "peers.csv")
    assert list(zip(rows["method"], rows["seed"], strict=True)) == [(name, seed) for seed in (0, 1) for name in cheap]
    assert (rows["model_images"] - rows["answer_images"] == 12 * 360).all()
    before = (results / "peers.csv").read_bytes()
    run.main(command)
    assert (results / "peers.csv").read_bytes() == before
    other = tiny_problem(results)
    changed = Problem(other.config.override(lr=0.5), other.sizes, other.seeds, other.execution)
    assert len(list(run.missing([changed], cheap, results / "peers.csv"))) == 4
    with pytest.raises(SystemExit):
        run.main([*command, "--problems", "linear3"])
    assert "no problem is called linear3; see linear2" in capsys.readouterr().err


def test_the_tables_compare_every_method_with_the_grid(results: Path) -> None:
    problem = tiny_problem(results)
    seeds = {size: [final_loss(problem.trained(size, seed)) for seed in (0, 1)] for size in problem.sizes}
    means = {size: float(np.mean(losses)) for size, losses in seeds.items()}
    best = min(means, key=lambda size: means[size])
    error = float(np.std(seeds[best], ddof=1) / np.sqrt(2))
    yardstick = min(size for size in means if means[size] <= means[best] + error)
    model = problem.configured(8, 0).name
    row = f"linear2,guess,0,8,True,{means[8]},0,0,4320,1,{model}\n"
    stale = "linear2,guess,0,8,True,1,0,0,4320,1,linear2-fixed-dim8-seed0-00000000\n"
    (results / "peers.csv").write_text(",".join(COLUMNS) + "\n" + row + stale)
    tables = table.make_tables(results)
    found, summary = tables["table"], tables["methods"].set_index("method")
    assert list(found["method"]) == ["grid search", "rule consolidate", "rule consolidate", "guess"]
    assert list(found["start"].dropna()) == [4, 8]
    assert set(found["yardstick"]) == {yardstick}
    guess = found.iloc[-1]
    assert guess["sizes"] == "8"
    assert guess["truth"] == 2
    assert guess["error"] == 8 - yardstick
    assert guess["gap"] == pytest.approx(means[8] - means[best], abs=1e-3)
    assert guess["best_error"] == pytest.approx(error, abs=1e-3)
    assert guess["gap_percent"] == pytest.approx(100 * (means[8] - means[best]) / abs(means[best]), abs=1e-2)
    assert guess["as_good"] == ("yes" if means[8] <= means[best] + error else "no")
    assert summary.loc["grid search", "trainings_until_model"] == 3
    assert summary.loc["guess", "trainings_until_answer"] == 0
    assert summary.loc["guess", "trainings_until_model"] == 1
    assert str(summary.loc["rule consolidate", "as_good"]).endswith("of 2")
    assert tables["held_out"].empty
    (sizes,) = tables["sizes"].to_dict("records")
    starts = found[found["method"] == "rule consolidate"]["size_mean"]
    assert sizes == {
        "problem": "linear2",
        "truth": 2,
        "yardstick": yardstick,
        "rule consolidate": starts.mean(),
        "guess": 8,
    }


def test_the_spread_leaves_out_starts_below_the_yardstick(results: Path) -> None:
    grid = next(c.grid for c in table.comparisons(results))
    assert grid is not None

    def rule(start: int, *sizes: int) -> table.Answers:
        return table.Answers(
            method="rule", start=start, sizes=sizes, found=(True,) * len(sizes), losses=(0.0,) * len(sizes), costs={}
        )

    comparison = table.Comparison("x", None, grid, (rule(1, 30, 30), rule(16, 12, 13), rule(64, 14, 14)))
    assert comparison.yardstick is not None
    assert comparison.yardstick > 1
    assert comparison.spread("rule") == 1.5
    assert comparison.spread("another") is None


def test_the_picture_shows_each_answer_where_the_truth_is_known_and_each_gap(tmp_path: Path) -> None:
    rows = [
        {"problem": "linear3", "method": figure.RULE, "sizes": "3 (5)", "truth": 3, "gap_percent": -1.5},
        {"problem": "linear3", "method": "guess", "sizes": "64", "truth": 3, "gap_percent": 200.0},
        {"problem": "digits", "method": "guess", "sizes": "12", "truth": None, "gap_percent": 2.0},
        {"problem": "digits", "method": table.GRID, "sizes": "4", "truth": None, "gap_percent": 0.0},
        {"problem": "digits", "method": "scan", "sizes": "4", "truth": None, "gap_percent": None},
    ]
    found = pd.DataFrame(rows)
    assert list(figure.errors(found, figure.RULE)) == [0, 2]
    assert list(figure.errors(found, "guess")) == [61]
    assert figure.gaps(found, "guess") == [200.0, 2.0]
    left, right = figure.draw(found).axes
    assert [text.get_text() for text in left.get_yticklabels()] == ["aldvae, recommended", "guess", "scan"]
    drawn = [np.asarray(dots.get_offsets())[:, 0].tolist() for dots in right.collections]
    assert drawn == [[-1.5], [100.0, 2.0], []]
    found.to_csv(tmp_path / "table.csv", index=False)
    figure.main([str(tmp_path)])
    assert (tmp_path / "figures" / "benchmark.png").stat().st_size > 1000
