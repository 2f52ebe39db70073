from __future__ import annotations

from pathlib import Path
from typing import Any

import benchmark_data
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldvae.config.execution import Execution, Schedule, threads_per_job
from aldvae.config.presets import PRESETS, protocol_settings
from aldvae.sweeps.jobs import distinct, parse_int_list
from aldvae.sweeps.plan_file import PlanError, load_plan
from aldvae.utils.errors import ConfigError
from tests.conftest import resolve, sweep

EXPERIMENTS = Path(__file__).parents[1] / "experiments"


@given(st.lists(st.integers(0, 9_999), min_size=1, max_size=20, unique=True))
def test_parse_int_list_reads_lists(values: list[int]) -> None:
    assert parse_int_list("dims", ",".join(map(str, values))) == values
    assert parse_int_list("dims", " , ".join(map(str, values))) == values


@given(st.integers(0, 500), st.integers(0, 500))
def test_parse_int_list_reads_ranges(first: int, length: int) -> None:
    assert parse_int_list("seeds", f"{first}-{first + length}") == list(range(first, first + length + 1))
    assert parse_int_list("seeds", f"{first}-{first + length},{first + length + 7}")[-2:] == [
        first + length,
        first + length + 7,
    ]


@pytest.mark.parametrize("text", ["", "a", "1,,2", "4-1", "1-2-3", "-1", "1.5", "1,1", "0-3,2", "0-99999999"])
def test_an_invalid_list_of_numbers_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match="--seeds"):
        parse_int_list("seeds", text)


@pytest.mark.parametrize("dataset", sorted(PRESETS))
def test_the_papers_values_are_the_defaults(dataset: str) -> None:
    preset = PRESETS[dataset]
    runs = [job.config for job in sweep("grid", dataset)]
    assert {(run.model.init_dim, run.training.seed) for run in runs} == {
        (size, seed) for size in preset.grid for seed in range(5)
    }
    assert {(run.kind, run.training.epochs) for run in runs} == {("fixed", preset.epochs)}
    starts = [job.config for job in sweep("sweep-init", dataset)]
    assert {(run.model.init_dim, run.training.seed) for run in starts} == {
        (s, seed) for s in preset.init_dims for seed in range(5)
    }
    assert {run.kind for run in starts} == {"adaptive"}
    assert [job.config.training.seed for job in sweep("seeds", dataset)] == [0, 1, 2, 3, 4]
    assert {job.config.model.init_dim for job in sweep("seeds", dataset)} == {preset.init_dims[0]}


def test_a_sweep_is_a_list_of_runs() -> None:
    (job,) = sweep("seeds", "digits", seeds=[3], epochs=7)
    assert job.config == resolve("adaptive", "digits", seed=3, epochs=7)
    (job,) = sweep("grid", "digits", sizes=[6], seeds=[1])
    assert job.config == resolve("fixed", "digits", init_dim=6, seed=1)


def test_a_run_of_several_sweeps_is_done_once() -> None:
    both = [*sweep("seeds", "digits"), *sweep("sweep-init", "digits")]
    names = [job.config.name for job in distinct(both)]
    assert len(names) == len(set(names)) == 15
    assert names[:5] == [job.config.name for job in both[:5]]


def test_rule_settings_have_no_effect_with_a_fixed_size() -> None:
    with pytest.raises(ConfigError, match="--patience has no effect with a model of fixed size"):
        sweep("grid", "digits", patience=7)


def test_the_command_of_a_fixed_size_makes_that_run() -> None:
    config = resolve("fixed", "digits", init_dim=6, seed=0, epochs=9)
    words = config.command.split()
    assert words[:2] == ["aldvae", "grid"]
    for option, value in (("--dims", "6"), ("--seeds", "0"), ("--epochs", "9"), ("--warmup", "0.0")):
        assert words[words.index(option) + 1] == value
    assert "--rule" not in words


def test_own_data_are_read_once_and_travel_with_each_job(tmp_path: Path) -> None:
    path = tmp_path / "x.npy"
    np.save(path, np.random.default_rng(0).normal(size=(50, 6)))
    jobs = sweep("grid", str(path), Execution(cache_dir=tmp_path), clusters=3)
    assert {job.own_data for job in jobs} == {path}
    assert {job.config.model.init_dim for job in jobs} == {2, 4}
    assert len({job.config.data.source for job in jobs}) == 1


def test_threads_never_exceed_the_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: set(range(6)))
    assert threads_per_job(1, None) is None
    assert threads_per_job(2, None) == 3
    assert threads_per_job(4, None) == 1
    assert threads_per_job(3, 2) == 2
    with pytest.raises(ConfigError, match="--jobs 7 is more than the 6 processor cores"):
        threads_per_job(7, None)
    with pytest.raises(ConfigError, match="--threads 3 for each of 3 runs exceed"):
        threads_per_job(3, 3)


@pytest.mark.parametrize(
    ("execution", "default", "threads"),
    [
        (Execution(), None, None),
        (Execution(), 1, 1),
        (Execution(max_threads=3), None, 3),
        (Execution(max_threads=3), 1, 1),
        (Execution(max_threads=3, threads=2), 1, 2),
    ],
)
def test_a_run_takes_at_most_the_threads_of_its_job(
    execution: Execution, default: int | None, threads: int | None
) -> None:
    assert execution.threads_for(default) == threads


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"executor": "slurm"}, "--executor slurm is not known"),
        ({"jobs": 0}, "--jobs must be"),
        ({"ray_address": "auto"}, "--ray-address has no effect without --executor ray"),
        ({"gpus_per_run": 0.5}, "--gpus-per-run has no effect without --executor ray"),
        ({"executor": "ray", "gpus_per_run": -1.0}, "--gpus-per-run must be"),
    ],
)
def test_an_invalid_schedule_is_refused(settings: dict[str, object], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        Schedule(**settings)  # type: ignore[arg-type]


def write_plan(tmp_path: Path, text: str) -> Path:
    """Write a plan file; return its path."""
    path = tmp_path / "plan.toml"
    path.write_text(text)
    return path


def test_a_plan_is_its_sweeps_in_one_list(tmp_path: Path) -> None:
    path = write_plan(
        tmp_path,
        """
        title = "both"
        [defaults]
        protocol = "paper"
        epochs = 9
        patience = 3
        fid_features = "none"
        [[sweep]]
        kind = "grid"
        datasets = ["digits", "mnist"]
        dims = "4,8"
        seeds = [0, 1]
        [[sweep]]
        kind = "sweep-init"
        datasets = ["digits"]
        init_dims = [16]
        seeds = "0-1"
        beta = 4
        epochs = 10
        """,
    )
    plan = load_plan(path)
    expected = [
        *sweep("grid", "digits", sizes=[4, 8], seeds=[0, 1], epochs=9, fid_features="none"),
        *sweep("grid", "mnist", sizes=[4, 8], seeds=[0, 1], epochs=9, fid_features="none"),
        *sweep("sweep-init", "digits", sizes=[16], seeds=[0, 1], epochs=10, patience=3, fid_features="none", beta=4.0),
    ]
    assert plan.title == "both"
    assert [job.config.name for job in plan.jobs(Execution()).jobs] == [job.config.name for job in expected]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("kind =", "is not TOML"),
        ("title = 'none'", r"lists no \[\[sweep\]\]"),
        ("[[sweep]]\nkind = 'gird'\ndatasets = ['digits']", "--kind gird is not known; did you mean grid"),
        ("[[sweep]]\nkind = 'grid'\ndatasets = ['digits']\nepoch = 3", "epoch is not known; did you mean epochs"),
        ("[[sweep]]\nkind = 'grid'\ndatasets = ['digits']\ninit_dim = 3", "--init-dim has no place here"),
        ("[[sweep]]\nkind = 'seeds'\ndatasets = ['digits']\ndims = [3]", "dims is not known"),
        ("[[sweep]]\nkind = 'grid'\ndatasets = ['digits']\nepochs = 'many'", '--epochs is "many", not of type int'),
        ("[[sweep]]\nkind = 'grid'\ndatasets = ['digits']\nepochs = true", "--epochs is true, not of type int"),
        ("[[sweep]]\nkind = 'grid'", "--datasets must be a list of names"),
        ("[[sweep]]\nkind = 'grid'\ndatasets = ['mnits']", "sweep 1: --dataset mnits .* did you mean mnist"),
        ("[[sweep]]\nkind = 'seeds'\ndatasets = ['digits']\nseeds = '3-1'", "sweep 1: --seeds has a range"),
        ("[[sweep]]\nkind = 'seeds'\nprotocol = 3\ndatasets = ['digits']", "--protocol is 3, not of type str"),
        (
            "[[sweep]]\nkind = 'seeds'\nprotocol = 'author'\ndatasets = ['digits']",
            "sweep 1: --protocol author is not known; did you mean authors",
        ),
        ("name = 'x'\n[[sweep]]\nkind = 'seeds'\ndatasets = ['digits']", "name is not known"),
        (
            "[defaults]\nsteps = 3\n[[sweep]]\nkind = 'seeds'\ndatasets = ['digits']",
            "steps is not known; did you mean step",
        ),
    ],
)
def test_an_invalid_plan_is_refused_with_the_place_of_the_error(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(PlanError, match=message):
        load_plan(write_plan(tmp_path, text)).jobs(Execution())


def test_a_plan_may_follow_the_authors_protocol(tmp_path: Path) -> None:
    path = write_plan(
        tmp_path,
        """
        [defaults]
        protocol = "authors"
        seeds = [0]
        [[sweep]]
        kind = "grid"
        datasets = ["mnist"]
        dims = [8]
        [[sweep]]
        kind = "seeds"
        datasets = ["mnist"]
        posterior = "gaussian"
        [[sweep]]
        kind = "seeds"
        datasets = ["mnist"]
        protocol = "paper"
        """,
    )
    assert [job.config for job in load_plan(path).jobs(Execution()).jobs] == [
        resolve("fixed", "mnist", init_dim=8, protocol="authors"),
        resolve("adaptive", "mnist", protocol="authors", posterior="gaussian"),
        resolve("adaptive", "mnist"),
    ]


def test_a_missing_plan_is_refused(tmp_path: Path) -> None:
    with pytest.raises(PlanError, match="cannot be read"):
        load_plan(tmp_path / "nothing.toml")


# The data of the benchmark must be made first: tests/test_benchmark.py makes them and checks its plan.
# Plans with runs of the recommended protocol whose start the real datasets tell.
READS_DATA = {"curve", "precision"}
PLANS = sorted(path for path in EXPERIMENTS.glob("*.toml") if path.stem != "benchmark")


@pytest.mark.parametrize("path", PLANS, ids=lambda path: path.stem)
def test_the_plans_of_the_project_are_valid(
    path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
) -> None:
    if path.stem in READS_DATA:
        request.getfixturevalue("data_dir")
    if "runs/benchmark-data" in path.read_text():
        benchmark_data.write(tmp_path / "runs" / "benchmark-data", ["curved8"])
        monkeypatch.chdir(tmp_path)
    plan = load_plan(path)
    assert plan.jobs(Execution(results_dir=Path("nowhere"))).jobs
    assert (plan.reduces == "") == (path.stem == "paper"), "a plan must say what it reduces"


def test_the_plan_of_the_paper_has_its_settings() -> None:
    jobs = load_plan(EXPERIMENTS / "paper.toml").jobs(Execution(results_dir=Path("nowhere"))).jobs
    assert {job.config.metrics.fid_features for job in jobs} == {"inception"}
    assert {job.config.settings["rule"] for job in jobs if job.config.kind == "adaptive"} == {"paper"}
    for dataset in ("sprites", "mnist", "fashionmnist", "eurosat"):
        runs = [job.config for job in jobs if job.config.data.dataset == dataset]
        assert {run.training.epochs for run in runs} == {PRESETS[dataset].epochs}
        assert {run.training.seed for run in runs} == set(range(5))
        assert len(runs) == 5 * (len(PRESETS[dataset].grid) + 3 + 1)


def test_the_study_changes_each_difference_alone() -> None:
    jobs = load_plan(EXPERIMENTS / "study.toml").jobs(Execution(results_dir=Path("nowhere"))).jobs
    settings: dict[str, Any] = {"limit": 10_000, "epochs": 60, "init_dim": 64, "fid_features": "classifier"}
    paper = resolve("adaptive", "mnist", **settings)
    runs = [job.config for job in jobs if job.config.data.dataset == "mnist" and job.config.training.seed == 0]
    changed = [{k for k, v in run.to_json().items() if v != paper.to_json()[k]} for run in runs]
    everything = set(protocol_settings("authors", PRESETS["mnist"]))
    alone = everything - {"rule"} | {"slow_down", "stopping"}
    assert [len(names) for names in changed[:9]] == [0, 1, 2, 1, 1, 1, 1, 1, 1]
    assert set().union(*changed[1:9]) == alone
    assert changed[9:] == [everything, everything - {"posterior"}]
    assert len(jobs) == 2 * len(runs)


def test_a_sweep_is_checked_at_its_own_first_size(tmp_path: Path) -> None:
    """Not at the preset's initial size, which the sweep replaces."""
    (job,) = sweep("sweep-init", "digits", sizes=[40], seeds=[0], min_dim=33)
    assert job.config.model.init_dim == 40
    np.savez(tmp_path / "one.npz", x=np.random.default_rng(0).normal(size=(200, 1)))
    (job,) = sweep("grid", str(tmp_path / "one.npz"), sizes=[2], seeds=[0], clusters=2)
    assert job.config.model.init_dim == 2


def test_a_wrong_default_of_a_plan_is_not_blamed_on_a_sweep(tmp_path: Path) -> None:
    path = tmp_path / "plan.toml"
    path.write_text("[defaults]\npatience = 'x'\n[[sweep]]\nkind = 'grid'\ndatasets = ['digits']")
    with pytest.raises(PlanError, match=r'^plan.toml: --patience is "x", not of type int'):
        load_plan(path)
