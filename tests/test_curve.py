"""The curve: sizes and epochs, what it leaves of the model, what it says, and how it resumes."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st
from safetensors.torch import load_file
from torch import Tensor, nn

import aldvae
from aldvae.analysis.series import group_by_seed
from aldvae.compression.curve import curve_sizes
from aldvae.config.execution import Execution
from aldvae.config.run_config import RunConfig
from aldvae.reporting.figures.curve import draw_curves
from aldvae.runs.curve import describe_curve, noise, smallest_sizes
from aldvae.runs.results import read_result, read_results
from aldvae.sweeps.plan_file import load_plan
from aldvae.sweeps.stacking import stack_key
from aldvae.training.callbacks import Callback
from aldvae.training.curve import Plan
from aldvae.training.loop import Outcome, run
from aldvae.utils.errors import AldvaeError, ArgumentError, ConfigError
from tests.conftest import resolve

ROOT = Path(__file__).parents[1]


@given(st.integers(2, 300), st.integers(0, 300))
@example(150, 148)
def test_the_sizes_of_a_curve_fall_to_the_smallest_and_are_as_many_as_fit(start: int, most: int) -> None:
    sizes = curve_sizes(start, most)
    assert len(sizes) <= most
    assert sizes == sorted(set(sizes), reverse=True)
    assert all(2 <= size < start for size in sizes)
    if most >= start - 2:
        assert sizes == list(range(start - 1, 1, -1))
    elif most > 0:
        assert sizes[-1] == 2
        assert most == 1 or -(-start // 2) in sizes


def test_sizes_are_skipped_where_they_would_cost_too_much() -> None:
    assert curve_sizes(13, 11) == [12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2]
    assert curve_sizes(13, 7) == [11, 9, 8, 7, 5, 3, 2]
    assert curve_sizes(64, 6) == [51, 40, 32, 13, 5, 2]
    assert curve_sizes(13, 1) == [2]
    assert curve_sizes(13, 0) == []


@given(st.integers(2, 200), st.integers(1, 500), st.none() | st.integers(1, 20))
def test_a_plan_costs_at_most_half_of_the_epochs(size: int, epochs: int, each: int | None) -> None:
    plan = Plan.make(size, epochs, each)
    assert 2 * plan.total <= epochs
    assert [plan.size(epoch) for epoch in range(1, plan.total + 1) if plan.is_last(epoch)] == list(plan.sizes)
    assert each is None or size == 2 or plan.epochs == each


class Linear(nn.Module):
    """A VAE of linear layers."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.mu, self.log_var, self.reader = nn.Linear(8, size), nn.Linear(8, size), nn.Linear(size, 8)
        self.register_buffer("passes", torch.zeros(()))

    passes: Tensor

    def forward(self, x: Tensor) -> Tensor:
        self.passes += 1
        mu, log_var = self.mu(x), self.log_var(x)
        decoded: Tensor = self.reader(mu + torch.randn_like(mu) * (0.5 * log_var).exp())
        kl = 0.5 * (mu.square() + log_var.exp() - 1 - log_var)
        loss: Tensor = (decoded - x).square().sum(1).mean() + kl.sum(1).mean()
        return loss


def state_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> Any:
    return copy.deepcopy([model.state_dict(), [optimizer.state[p] for p in model.parameters()]])


def equal(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return set(one) == set(other) and all(equal(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(equal(a, b) for a, b in zip(one, other, strict=True))
    return bool(one == other)


RULES: dict[str, Any] = {"kl": aldvae.RobustRule(), "directions": aldvae.ConsolidatingRule(epochs=9)}


class Loop:
    """A trained model with its compressor, and what `curve` calls."""

    def __init__(self, rule: str) -> None:
        torch.manual_seed(0)
        self.model, self.sizes, self.x = Linear(6), list[int](), torch.randn(64, 8) * torch.arange(8, 0, -1)
        self.optimizer = torch.optim.Adam(self.model.parameters(), 0.01, amsgrad=True)
        self.compressor = aldvae.Compressor(
            heads=[self.model.mu, self.model.log_var],
            readers=[self.model.reader],
            optimizer=self.optimizer,
            rule=RULES[rule],
            model=self.model,
        )
        for _ in range(50):
            self.train()

    def train(self) -> None:
        self.optimizer.zero_grad()
        self.model(self.x).backward()
        self.optimizer.step()

    def validate(self) -> dict[str, float]:
        self.sizes.append(self.compressor.latent_dim)
        with torch.no_grad():
            return {"loss": float(self.model(self.x))}


@pytest.mark.parametrize("rule", RULES)
def test_the_model_is_as_before_the_curve_bit_by_bit(rule: str) -> None:
    loop = Loop(rule)
    before, neurons = state_of(loop.model, loop.optimizer), list(loop.compressor.neurons)
    points = loop.compressor.curve(loop.train, loop.validate, epochs=3)
    assert [(point.latent_dim, point.epochs) for point in points] == [(6, 0), (5, 3), (4, 6), (3, 9), (2, 12)]
    assert loop.sizes == [6, 5, 4, 3, 2]
    assert points[-1].metrics["loss"] > points[0].metrics["loss"]
    assert equal(state_of(loop.model, loop.optimizer), before)
    assert loop.compressor.neurons == neurons
    loop.train()
    assert not equal(state_of(loop.model, loop.optimizer), before)


@pytest.mark.parametrize("rule", RULES)
def test_the_model_is_as_before_also_if_the_curve_fails(rule: str) -> None:
    loop = Loop(rule)
    before = state_of(loop.model, loop.optimizer)

    def fail() -> None:
        loop.train()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        loop.compressor.curve(fail, loop.validate, sizes=[4, 2])
    assert equal(state_of(loop.model, loop.optimizer), before)
    assert loop.compressor.latent_dim == 6


def test_the_dimension_with_the_lowest_kl_divergence_goes_first() -> None:
    """Without consolidation; means that hardly vary, with unit variance, carry nothing."""
    loop = Loop("kl")
    kept: list[Tensor] = []
    with torch.no_grad():
        loop.model.mu.weight[2], loop.model.mu.bias[2] = 0.0, 0.0
        loop.model.log_var.weight[2], loop.model.log_var.bias[2] = 0.0, 0.0
    expected = loop.model.mu.weight[[0, 1, 3, 4, 5]].clone()
    loop.compressor.curve(lambda: kept.append(loop.model.mu.weight.clone()), loop.validate, sizes=[5])
    assert torch.equal(kept[0], expected)


def test_a_copy_of_a_direction_costs_nothing_with_consolidation() -> None:
    """Two dimensions with the same mean are one direction; the decoder sees what it saw before."""
    loop = Loop("directions")
    seen: list[Tensor] = []
    with torch.no_grad():
        loop.model.mu.weight[1], loop.model.mu.bias[1] = loop.model.mu.weight[0], loop.model.mu.bias[0]
        expected = loop.model.reader(loop.model.mu(loop.x))
    loop.compressor.curve(lambda: seen.append(loop.model.reader(loop.model.mu(loop.x))), loop.validate, sizes=[5])
    torch.testing.assert_close(seen[0].detach(), expected, atol=1e-3, rtol=1e-4)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"sizes": [6]}, "sizes must fall from below 6 to 2 or more"),
        ({"sizes": [4, 4]}, "sizes must fall"),
        ({"sizes": [1]}, "sizes must fall"),
        ({"epochs": 0}, "epochs must be 1 or more, not 0"),
        ({"scale": "softplus"}, "scale must be log_var or log_std"),
    ],
)
def test_a_curve_that_makes_no_sense_is_refused(arguments: dict[str, Any], message: str) -> None:
    loop = Loop("directions")
    with pytest.raises(ArgumentError, match=message):
        loop.compressor.curve(loop.train, loop.validate, **arguments)


def test_a_curve_needs_an_optimiser_that_goes_on_training() -> None:
    model = Linear(6)
    heads: list[nn.Module] = [model.mu, model.log_var]
    optimizer = torch.optim.Adam(model.parameters())
    without = aldvae.Compressor(heads=heads, readers=[model.reader], optimizer=None)
    frozen = aldvae.Compressor(heads=heads, readers=[model.reader], optimizer=optimizer, freeze=True)
    for compressor, message in ((without, "optimizer must be given"), (frozen, "freeze must be False")):
        with pytest.raises(ArgumentError, match=message):
            compressor.curve(lambda: None, dict)


def test_the_noise_is_that_around_a_slow_trend() -> None:
    assert noise([3.0]) == noise([]) == 0.0
    assert noise([1.0, 1.0, 1.0]) == 0.0
    assert noise([0.0, 2.0, 0.0, 2.0]) == pytest.approx(2**0.5)
    values = (100 - 0.01 * torch.arange(4000) + torch.randn(4000, generator=torch.manual_seed(0))).tolist()
    assert noise(values) == pytest.approx(1.0, abs=0.05)


def rows(column: str, values: dict[int, float]) -> list[dict[str, Any]]:
    return [{"latent_dim": size, "recon_loss": 0.0, "kl": 0.0, column: value} for size, value in values.items()]


def test_the_smallest_good_size_is_within_the_noise_of_the_best() -> None:
    curve = rows("recon_loss", {8: 50.0, 6: 50.5, 4: 51.5, 2: 60.0})
    epochs = rows("recon_loss", dict.fromkeys(range(1), 0.0)) * 20  # before the last ten
    epochs += [{"recon_loss": 50.0 + (-1) ** epoch / 2**0.5, "kl": 0.0} for epoch in range(10)]
    assert smallest_sizes(curve, epochs, beta=1.0, has_frechet=False)["loss"] == 6
    assert smallest_sizes(curve, [], beta=1.0, has_frechet=False)["reconstruction"] == 8
    clusters = rows("silhouette", {8: 0.1, 6: 0.3, 4: 0.3, 2: 0.2})
    assert smallest_sizes(clusters, [], beta=1.0, has_frechet=False)["clustering"] == 4
    kl = rows("kl", {8: 1.0, 4: 2.0})
    assert smallest_sizes(kl, [], beta=0.0, has_frechet=False)["loss"] == 4
    assert smallest_sizes(kl, [], beta=1.0, has_frechet=True) == {"loss": 8}


# A run that ends with 4 of 8 dimensions, whose curve has two epochs at each of 3 and 2.
RUN: dict[str, Any] = {
    "limit": 300,
    "epochs": 9,
    "patience": 2,
    "step": 2,
    "init_dim": 8,
    "min_dim": 4,
    "hidden_dim": 16,
    "fid_features": "pca",
    "fid_samples": 50,
    "silhouette_samples": 50,
    "curve": True,
}


def config_of(**changes: Any) -> RunConfig:
    return resolve("adaptive", "digits", **{**RUN, **changes})


def execute(directory: Path, **changes: Any) -> Outcome:
    return run(config_of(**changes), Execution(results_dir=directory))


@pytest.fixture(scope="module")
def with_sizes(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    return execute(tmp_path_factory.mktemp("curve"), keep_sizes=True)


def test_a_curve_leaves_the_run_as_it_is_without_one(with_sizes: Outcome, tmp_path: Path) -> None:
    plain = execute(tmp_path, curve=False)
    assert not (plain.path / "curve.csv").exists()
    for name in ("metrics.csv", "latent.csv", "decisions.csv", "model.safetensors", "latent_space.csv", "samples.png"):
        assert (plain.path / name).read_bytes() == (with_sizes.path / name).read_bytes(), name
    added = {"smallest_sizes", "curve_epochs", "curve_seconds"}
    assert set(with_sizes.summary) - set(plain.summary) == added
    assert with_sizes.summary["final"] == plain.summary["final"]
    assert plain.path.name.split("-")[-1] != with_sizes.path.name.split("-")[-1]


def test_the_curve_begins_with_the_model_and_counts_all_epochs(with_sizes: Outcome) -> None:
    curve = pd.read_csv(with_sizes.path / "curve.csv")
    assert curve["latent_dim"].tolist() == [4, 3, 2]
    assert curve["epoch"].tolist() == [9, 11, 13]
    assert with_sizes.summary["curve_epochs"] == 4
    final = with_sizes.summary["final"]
    assert curve.iloc[0][["recon_loss", "kl", "fid_gen"]].to_dict() == {
        n: final[n] for n in ("recon_loss", "kl", "fid_gen")
    }
    assert curve.notna().all().all()
    assert set(with_sizes.summary["smallest_sizes"]) == {"loss", "reconstruction", "generation", "clustering"}
    assert "by clusters" in describe_curve(with_sizes.summary)
    assert not (with_sizes.path / "curve.pt").exists()


def test_the_models_of_all_sizes_load(with_sizes: Outcome) -> None:
    for size in (4, 3, 2):
        assert aldvae.load(with_sizes.path, latent_dim=size).latent_dim == size
    assert aldvae.load(with_sizes.path).latent_dim == 4
    with pytest.raises(AldvaeError, match=r"no model of size 7: .* has the sizes 2, 3, 4; a run with --keep-sizes"):
        aldvae.load(with_sizes.path, latent_dim=7)


@pytest.mark.parametrize("favour", ["loss", "clustering"])
def test_a_run_keeps_the_model_that_it_favours(with_sizes: Outcome, tmp_path: Path, favour: str) -> None:
    outcome = execute(tmp_path, favour=favour)
    size = with_sizes.summary["smallest_sizes"][favour]
    assert outcome.summary["smallest_sizes"] == with_sizes.summary["smallest_sizes"]
    assert outcome.summary["latent_dim"] == outcome.summary["final"]["latent_dim"] == size
    kept, expected = (
        load_file(outcome.path / "model.safetensors"),
        load_file(with_sizes.path / f"sizes/{size}.safetensors"),
    )
    assert equal(dict(kept), dict(expected))
    assert not (outcome.path / "sizes").exists()


class InterruptCurve(Callback):
    """Interrupts the run after one epoch of its curve, or as its last epoch ends (0)."""

    def __init__(self, after: int) -> None:
        self.after = after

    def on_epoch_end(self, epoch: int, row: object, step: object) -> None:  # noqa: ARG002
        if epoch == RUN["epochs"] and self.after == 0:
            raise KeyboardInterrupt

    def on_curve_epoch(self, epoch: int, epochs: int, latent_dim: int) -> None:  # noqa: ARG002
        if epoch == self.after:
            raise KeyboardInterrupt


@pytest.mark.parametrize("after", [0, 1, 2, 3, 4])
def test_an_interrupted_curve_resumes_to_the_same_bytes(with_sizes: Outcome, tmp_path: Path, after: int) -> None:
    config, execution = config_of(keep_sizes=True), Execution(results_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(config, execution, InterruptCurve(after))
    resumed = run(config, execution)
    names = ["curve.csv", "metrics.csv", "model.safetensors", *(f"sizes/{size}.safetensors" for size in (2, 3, 4))]
    for name in names:
        assert (resumed.path / name).read_bytes() == (with_sizes.path / name).read_bytes(), name
    assert resumed.summary["smallest_sizes"] == with_sizes.summary["smallest_sizes"]
    assert resumed.summary["curve_epochs"] == 4
    assert len(pd.read_csv(resumed.path / "times.csv")) == 13


def test_a_damaged_checkpoint_of_the_curve_starts_it_again(with_sizes: Outcome, tmp_path: Path) -> None:
    config, execution = config_of(), Execution(results_dir=tmp_path)
    with pytest.raises(KeyboardInterrupt):
        run(config, execution, InterruptCurve(3))
    checkpoint = tmp_path / config.name / "curve.pt"
    checkpoint.write_bytes(checkpoint.read_bytes()[:1000])
    resumed = run(config, execution)
    assert (resumed.path / "curve.csv").read_bytes() == (with_sizes.path / "curve.csv").read_bytes()


def test_a_run_that_consolidates_has_a_curve_by_default_and_resumes(tmp_path: Path) -> None:
    config = resolve(
        "adaptive", "digits", protocol="recommended", init_dim=12, min_dim=4, epochs=12, lr=0.005, fid_features="none"
    )
    whole = run(config, Execution(results_dir=tmp_path / "whole"))
    curve = pd.read_csv(whole.path / "curve.csv")
    assert curve["latent_dim"].tolist()[-1] == 2
    assert "generation" not in whole.summary["smallest_sizes"]
    with pytest.raises(KeyboardInterrupt):
        run(config, Execution(results_dir=tmp_path / "resumed"), InterruptCurve(2))
    resumed = run(config, Execution(results_dir=tmp_path / "resumed"))
    assert (resumed.path / "curve.csv").read_bytes() == (whole.path / "curve.csv").read_bytes()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"curve": False, "curve_epochs": 2}, "--curve-epochs has no effect without --curve"),
        ({"curve": False, "favour": "loss"}, "--favour has no effect without --curve"),
        ({"curve": False, "keep_sizes": True}, "--keep-sizes has no effect without --curve"),
        ({"curve_epochs": 0}, "--curve-epochs must be 1 or more"),
        ({"curve_epochs": 5}, "--curve-epochs 5 is more than half of --epochs 9"),
        ({"favour": "losses"}, "--favour losses is not known; did you mean loss"),
        ({"favour": "generation", "fid_features": "none"}, "--favour generation needs Fréchet distances"),
        ({"stop": False}, "--curve has no effect with --no-stop"),
        ({"shrunk_layers": "frozen"}, "--curve needs layers that go on training"),
    ],
)
def test_settings_that_make_no_curve_are_refused(settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        config_of(**settings)


def test_a_curve_is_the_default_of_the_recommended_protocol_alone() -> None:
    for protocol, expected in (("paper", False), ("authors", False), ("recommended", True)):
        config = resolve("adaptive", "mnist", protocol=protocol, init_dim=20)
        assert config.settings["curve"] is expected
    assert resolve("fixed", "mnist", protocol="recommended", init_dim=20).settings["curve"] is False
    no_stop = resolve("adaptive", "digits", protocol="recommended", rule="paper", stop=False, init_dim=20)
    assert no_stop.settings["curve"] is False
    assert "curve" not in config_of(curve=False).to_json()


def test_the_command_of_a_run_says_whether_it_has_a_curve() -> None:
    recommended: dict[str, Any] = {"protocol": "recommended", "init_dim": 20}
    assert "--curve" in resolve("adaptive", "mnist", **recommended).command.split()
    assert "--no-curve" in resolve("adaptive", "digits", **recommended, curve=False).command.split()
    assert "curve" not in resolve("fixed", "digits", **recommended).command


def test_a_run_with_a_curve_is_trained_alone() -> None:
    assert stack_key(config_of(curve=False)) is not None
    assert stack_key(config_of()) is None


def test_committed_runs_of_the_recommended_protocol_keep_their_names() -> None:
    committed = ROOT / "results" / "benchmark"
    paths = [file.parent for file in committed.glob("*/config.json")]
    assert len(paths) > 100
    for path in paths:
        settings = json.loads((path / "config.json").read_text())["settings"]
        assert RunConfig.from_json(settings).name == path.name
    digits = next(
        plan for plan in load_plan(ROOT / "experiments" / "benchmark.toml").sweeps if plan.kind == "sweep-init"
    )
    for job in digits.jobs(Execution(results_dir=committed)).jobs:
        assert (committed / job.config.name).is_dir()


def test_grids_in_the_same_directory_are_drawn_over_the_curve(with_sizes: Outcome, tmp_path: Path) -> None:
    fixed = {name: value for name, value in RUN.items() if name not in ("patience", "step", "min_dim", "curve")}
    for size in (2, 4, 8):
        run(resolve("fixed", "digits", **{**fixed, "init_dim": size}), Execution(results_dir=tmp_path))
    run(config_of(favour="clustering"), Execution(results_dir=tmp_path))
    (figure,) = draw_curves(group_by_seed(read_results(tmp_path))[0]).values()
    loss, *_ = figure.axes
    assert [axis.get_ylabel().split("\n")[0] for axis in figure.axes][:2] == ["Loss", "Reconstruction loss"]
    assert len(figure.axes) == 5
    lines = {str(line.get_label()): line.get_xydata() for line in loss.lines}
    assert np.asarray(lines["models of fixed size"])[:, 0].tolist() == [2, 4]
    result = read_result(with_sizes.path)
    assert result is not None
    expected = (result.curve["recon_loss"] + result.curve["kl"]).tolist()[::-1]
    assert np.asarray(lines["curve"])[:, 1].tolist() == pytest.approx(expected)
    assert list(draw_curves(group_by_seed(read_results(with_sizes.path.parent))[0]).values())
