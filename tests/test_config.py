from __future__ import annotations

import json
from dataclasses import MISSING
from pathlib import Path
from typing import Any, get_args, get_type_hints

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from aldvae.analysis.series import fixed_size_config
from aldvae.compression.rules.consolidate import ConsolidatingRule
from aldvae.compression.rules.robust import RobustRule
from aldvae.compression.rules.slopes import AuthorsRule, PaperRule
from aldvae.config.execution import Execution
from aldvae.config.options import flag, option_fields
from aldvae.config.resolve import Overrides
from aldvae.config.run_config import ADDED_DEFAULTS, SECTIONS, RunConfig
from aldvae.utils.errors import ConfigError
from tests.conftest import resolve, sweep


def test_defaults_come_from_the_preset_of_the_dataset() -> None:
    settings = resolve("adaptive", "mnist").settings
    paper = {"init_dim": 100, "epochs": 200, "hidden_dim": 400, "batch_size": 64, "fid_features": "inception"}
    paper |= {"rule": "paper", "select": "random", "patience": 5, "window": 20, "slow_window": 10, "step": 5}
    assert {name: settings[name] for name in paper} == paper
    assert resolve("adaptive", "mnist", epochs=7, limit=None).training.epochs == 7


@given(
    changes=st.fixed_dictionaries(
        {},
        optional={
            "seed": st.integers(0, 2**40),
            "epochs": st.integers(1, 500),
            "beta": st.floats(0, 8),
            "stop": st.booleans(),
            "threshold_fid_gen": st.floats(allow_nan=False),
            "limit": st.integers(2, 1000),
            "select": st.sampled_from(["random", "kl", "last"]),
        },
    )
)
def test_survives_json_and_has_a_name_of_its_own(changes: dict[str, Any]) -> None:
    config = resolve("adaptive", "digits", **changes)
    assert RunConfig.from_json(json.loads(json.dumps(config.to_json(), allow_nan=False))) == config
    if config != resolve("adaptive", "digits"):
        assert config.name != resolve("adaptive", "digits").name


def test_every_setting_changes_the_name() -> None:
    config = resolve("adaptive", "digits")
    other: dict[str, Any] = {
        "dataset": "mnist",
        "limit": 50,
        "fid_features": "none",
        "select": "kl",
        "stop": False,
        "precision": "bfloat16",
    }
    other |= {"silhouette_on": "means", "silhouette_groups": "classes", "metrics_every": 5, "fid_precision": "float16"}
    config = config.override(fid_features="inception", likelihood="gaussian")
    other |= {
        "network": "conv",
        "channels": 8,
        "likelihood": "bernoulli",
        "scale": "optimal",
        "resize": 9,
        "validation": 0.4,
    }
    other |= {"posterior": "softmax", "shuffle": False, "rule": "authors", "shrunk_layers": "frozen"}
    other |= {"slow_down": "means", "stopping": "slow", "warmup": 0.2, "standardise": True}
    other |= {"curve": True, "curve_epochs": 2, "favour": "loss", "keep_sizes": True}
    current: dict[str, Any] = config.settings
    for setting in option_fields(*SECTIONS):
        value = other[setting.name] if setting.name in other else current[setting.name] + 1
        start = config.override(curve=True) if setting.name in ("curve_epochs", "favour", "keep_sizes") else config
        assert start.override(**{setting.name: value}).name != start.name, setting.name


# The keys of config.json in version 0.1.0, in their order.
FIRST_SETTINGS = (
    "kind source dataset limit validation resize clusters network hidden_dim channels likelihood "
    "posterior init_dim beta epochs batch_size lr shuffle precision seed rule select patience window "
    "slow_window slow_down stopping step slow_step min_dim shrunk_layers stop threshold_recon_loss "
    "threshold_silhouette threshold_fid_recon threshold_fid_gen fid_features fid_samples fid_precision "
    "silhouette_samples silhouette_on silhouette_groups metrics_every"
)


@pytest.mark.parametrize("kind", ["adaptive", "fixed"])
def test_new_settings_leave_the_files_of_older_runs(kind: str) -> None:
    config = resolve(kind, "digits")
    assert " ".join(config.to_json()) == FIRST_SETTINGS
    assert config.differences(config.to_json()) == []
    assert config.differences({**config.to_json(), "lr": 0.5, "kind": "other"}) == ["kind", "lr"]


def test_a_new_setting_is_stored_where_it_differs_from_its_default() -> None:
    learned = resolve("adaptive", "digits", likelihood="gaussian")
    optimal = learned.override(scale="optimal")
    assert "scale" not in learned.to_json()
    assert optimal.to_json() == {**learned.to_json(), "scale": "optimal"}
    for config, other in ((learned, optimal), (optimal, learned)):
        assert RunConfig.from_json(config.to_json()) == config
        assert config.differences(config.to_json()) == []
        assert config.differences(other.to_json()) == ["scale"]
    assert learned.differences({**learned.to_json(), "scale": "learned"}) == []


def test_every_setting_is_of_the_first_version_or_names_its_own() -> None:
    later = {setting.name: setting.default for setting in option_fields(*SECTIONS) if setting.metadata["added"]}
    names = [setting.name for setting in option_fields(*SECTIONS) if setting.name not in later]
    assert " ".join(["kind", "source", *names]) == FIRST_SETTINGS
    assert later == ADDED_DEFAULTS
    assert not any(default is MISSING for default in later.values())


def test_new_settings_leave_the_names_of_older_runs() -> None:
    last = resolve("adaptive", "mnist", select="last", threshold_recon_loss=-0.5, stop=False)
    gaussian = resolve("adaptive", "digits", likelihood="gaussian")
    configs = (resolve("adaptive", "digits"), last, resolve("fixed", "mnist", init_dim=8), gaussian)
    names = [config.name for config in configs]
    assert names == [
        "digits-adaptive-dim32-seed0-3468d6c2",
        "mnist-adaptive-dim100-seed0-ca781354",
        "mnist-fixed-dim8-seed0-86b1a6cb",
        "digits-adaptive-dim32-seed0-6f0625ba",
    ]


def test_the_authors_protocol_sets_every_difference() -> None:
    config = resolve("adaptive", "mnist", protocol="authors")
    authors = {"posterior": "softmax", "shuffle": False, "fid_samples": 100, "silhouette_groups": "classes"}
    authors |= {"silhouette_samples": 1000, "rule": "authors", "select": "last", "shrunk_layers": "frozen"}
    assert {name: config.settings[name] for name in authors} == authors
    rule = config.make_rule()
    assert rule == AuthorsRule()
    assert resolve("adaptive", "mnist", protocol="paper") == resolve("adaptive", "mnist")
    with pytest.raises(ConfigError, match="--protocol author is not known; did you mean authors"):
        resolve("adaptive", "mnist", protocol="author")


def test_explicit_settings_override_the_protocol() -> None:
    overrides: dict[str, Any] = {"posterior": "gaussian", "shuffle": True, "fid_samples": 500, "rule": "paper"}
    config = resolve("adaptive", "mnist", protocol="authors", **overrides)
    assert {name: config.settings[name] for name in overrides} == overrides
    assert config.make_rule() == PaperRule()
    assert config.settings["select"] == "last"
    by_slope = resolve("adaptive", "mnist", protocol="authors", slow_down="slope")
    assert by_slope.make_rule() == AuthorsRule(slow_down="slope")


def test_the_default_protocol_depends_on_the_dataset(tmp_path: Path) -> None:
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((60, 9)))
    for dataset in ("digits", str(tmp_path / "v.npy")):
        own: dict[str, Any] = {"clusters": 3} | ({"likelihood": "gaussian"} if dataset == "digits" else {})
        recommended = resolve("adaptive", dataset, protocol="recommended", **own)
        assert resolve("adaptive", dataset, protocol=None, **own) == recommended
        assert recommended != resolve("adaptive", dataset, protocol="paper", **own)
    for dataset in ("mnist", "fashionmnist", "eurosat", "sprites"):
        assert resolve("adaptive", dataset, protocol=None) == resolve("adaptive", dataset, protocol="paper")


def test_the_recommended_protocol_warms_up_and_downloads_nothing(tmp_path: Path) -> None:
    config = resolve("adaptive", "mnist", protocol="recommended", init_dim=25)
    assert (config.rule, config.training.warmup, config.metrics.fid_features) == ("consolidate", 0.2, "classifier")
    assert config.make_rule() == ConsolidatingRule(epochs=20, warmup=0.2)
    fixed = resolve("fixed", "mnist", protocol="recommended", init_dim=8)
    assert fixed == fixed_size_config(config, 8)
    np.savez(tmp_path / "x.npz", x=np.random.default_rng(0).random((60, 16, 16)), labels=np.arange(60) % 3)
    assert resolve("adaptive", str(tmp_path / "x.npz"), protocol="recommended").metrics.fid_features == "classifier"
    np.save(tmp_path / "v.npy", np.random.default_rng(0).random((60, 9)))
    vectors = resolve("adaptive", str(tmp_path / "v.npy"), protocol="recommended", clusters=2)
    assert (vectors.metrics.fid_features, vectors.model.scale) == ("pca", "optimal")
    gaussian = resolve("adaptive", "mnist", protocol="recommended", init_dim=25, likelihood="gaussian")
    assert (config.model.scale, gaussian.model.scale) == ("learned", "optimal")
    assert [c.model.standardise for c in (config, gaussian, vectors)] == [False, True, False]


def test_a_fixed_size_gets_all_of_the_authors_protocol_but_compression() -> None:
    config = resolve("fixed", "mnist", init_dim=8, protocol="authors")
    changed: dict[str, Any] = {"posterior": "softmax", "shuffle": False, "fid_samples": 100, "silhouette_samples": 1000}
    assert config == resolve("fixed", "mnist", init_dim=8, silhouette_groups="classes", **changed)
    assert config == fixed_size_config(resolve("adaptive", "mnist", protocol="authors"), 8)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("slow_down", "means"),
        ("stopping", "slow"),
        ("window", 10),
        ("slow_window", 5),
        ("step", 3),
        ("slow_step", 2),
        ("stop", False),
        ("shrunk_layers", "frozen"),
        ("threshold_fid_gen", 0.5),
    ],
)
def test_an_option_without_effect_with_the_robust_rule_is_refused(option: str, value: Any) -> None:
    with pytest.raises(ConfigError, match=f"^{flag(option, negative=value is False)} has no effect with --rule robust"):
        resolve("adaptive", "digits", rule="robust", **{option: value})


def test_the_robust_rule_has_its_own_defaults() -> None:
    config = resolve("adaptive", "digits", rule="robust", beta=0.5, min_dim=3)
    assert (config.settings["select"], config.make_rule()) == ("kl", RobustRule(beta=0.5, min_dim=3, epochs=200))
    with pytest.raises(ConfigError, match="--select must be kl with --rule robust, not random"):
        resolve("adaptive", "digits", rule="robust", select="random")
    both = resolve("adaptive", "mnist", rule="robust", protocol="authors").settings
    merged = {"posterior": "softmax", "shuffle": False, "shrunk_layers": "trained", "select": "kl"}
    assert {name: both[name] for name in merged} == merged


def parse_settings(command: str) -> dict[str, Any]:
    """Return the settings in a command line of `aldvae adaptive`."""
    hints = {name: hint for section in SECTIONS for name, hint in get_type_hints(section).items()}
    words, parsed = iter(command.split()[2:]), dict[str, Any]()
    for word in words:
        name = word.removeprefix("--").replace("-", "_")
        if name in hints and hints[name] is not bool:
            kind = next(k for k in (int, float, str) if k in (hints[name], *get_args(hints[name])))
            parsed[name] = kind(next(words))
        else:
            parsed[name.removeprefix("no_")] = not name.startswith("no_")
    return parsed


@pytest.mark.parametrize(
    "overrides",
    [
        {"dataset": "mnist"},
        {"dataset": "digits", "rule": "robust"},
        {"dataset": "digits", "rule": "robust", "patience": 5, "beta": 0.5},
        {"dataset": "digits", "likelihood": "gaussian", "scale": "optimal"},
        {"dataset": "mnist", "protocol": "recommended", "init_dim": 25},
        {"dataset": "digits", "protocol": "recommended", "likelihood": "gaussian"},
        {"dataset": "digits", "protocol": "recommended", "likelihood": "gaussian", "standardise": False},
        {"dataset": "mnist", "protocol": "recommended", "init_dim": 25, "curve": False},
        {"dataset": "digits", "protocol": "recommended", "curve_epochs": 3, "favour": "loss", "keep_sizes": True},
        {"dataset": "digits", "protocol": "recommended", "curve": False},
        {"dataset": "mnist", "protocol": "authors"},
        {"dataset": "mnist", "protocol": "authors", "rule": "robust"},
        {"dataset": "eurosat", "stop": False, "shuffle": False, "select": "kl"},
    ],
)
def test_the_command_of_a_run_resolves_to_the_same_run(overrides: dict[str, Any]) -> None:
    config = resolve("adaptive", **overrides)
    assert resolve("adaptive", **{"dataset": "digits", "protocol": None, **parse_settings(config.command)}) == config


def test_the_command_always_names_the_rule_for_own_data(tmp_path: Path) -> None:
    np.save(tmp_path / "x.npy", np.random.default_rng(0).normal(size=(200, 6)))
    for rule in ("paper", "robust"):
        config = resolve("adaptive", str(tmp_path / "x.npy"), clusters=3, rule=rule)
        assert f"--rule {rule}" in config.command
        settings = parse_settings(config.command)
        assert resolve("adaptive", **{**settings, "dataset": str(tmp_path / "x.npy")}, protocol=None) == config
    np.save(tmp_path / "column.npy", np.random.default_rng(0).normal(size=(200, 1)))
    with pytest.raises(ConfigError, match="--dims is needed"):
        sweep("grid", str(tmp_path / "column.npy"), clusters=3)


def test_the_command_names_the_explicit_settings() -> None:
    config = resolve("adaptive", "digits", stop=False, limit=100, threshold_recon_loss=-0.5, lr=0.01)
    words = config.command.split()
    assert words[:2] == ["aldvae", "adaptive"]
    assert "--no-stop" in words
    assert words[words.index("--limit") + 1] == "100"
    assert words[words.index("--threshold-recon-loss") + 1] == "-0.5"
    assert not any("/" in word for word in words)


def test_explicit_options_are_checked_before_they_are_merged() -> None:
    with pytest.raises(ConfigError, match="--epoch epoch is not known; did you mean epochs"):
        Overrides({"epoch": 3})
    with pytest.raises(ConfigError, match="--epochs is true, not of type int"):
        Overrides({"epochs": True})
    assert Overrides({"beta": 2, "limit": None}).settings == {"beta": 2.0}
    assert Overrides({"beta": 2, "epochs": 3}, "authors").without("beta") == Overrides({"epochs": 3}, "authors")


def test_a_configuration_is_stored_flat_and_refuses_unknown_settings() -> None:
    stored = resolve("fixed", "digits", init_dim=4).to_json()
    assert " ".join(stored) == FIRST_SETTINGS
    with pytest.raises(TypeError, match="unknown settings: colour"):
        RunConfig.from_json({**stored, "colour": "red"})
    with pytest.raises(TypeError):
        RunConfig.from_json({name: value for name, value in stored.items() if name != "epochs"})
    with pytest.raises(TypeError, match="growing is no kind of run"):
        RunConfig.from_json({**stored, "kind": "growing"})
    with pytest.raises(ConfigError, match="--window has no effect with a model of fixed size; remove it"):
        RunConfig.from_json({**stored, "window": 7})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"dataset": "mnits"}, "--dataset mnits is not known; did you mean mnist"),
        ({"rule": "papre"}, "--rule papre is not known; did you mean paper"),
        ({"select": "klm"}, "did you mean kl"),
        ({"fid_features": "incepton"}, "did you mean inception"),
        ({"network": "mpl"}, "did you mean mlp"),
        ({"likelihood": "gauss"}, "did you mean gaussian"),
        ({"scale": "optimal"}, "^--scale has no effect with --likelihood bernoulli; remove it$"),
        ({"standardise": True}, "^--standardise has no effect with --likelihood bernoulli; remove it$"),
        ({"likelihood": "gaussian", "scale": "optimum"}, "--scale optimum is not known; did you mean optimal"),
        ({"posterior": "softmx"}, "--posterior softmx is not known; did you mean softmax"),
        ({"shrunk_layers": "freeze"}, "--shrunk-layers freeze is not known; did you mean frozen"),
        ({"slow_down": "mean"}, "--slow-down mean is not known; did you mean means"),
        ({"stopping": "slowly"}, "--stopping slowly is not known; did you mean slow"),
        ({"stopping": "slow", "window": 2}, "--window must be 3 or more"),
        ({"rule": "robust", "beta": 0.0}, "--beta must be above 0"),
        ({"validation": 1.0}, "--validation must be between 0 and 1"),
        ({"clusters": 1}, "--clusters must be 2 or more"),
        ({"channels": 0}, "--channels must be 1 or more"),
        ({"silhouette_on": "mean"}, "did you mean means"),
        ({"fid_precision": "bfloat16"}, "--fid-precision has no effect with --fid-features classifier"),
        ({"metrics_every": 10, "patience": 10}, "--metrics-every 10 leaves fewer than two measured epochs"),
        (
            {"rule": "authors", "metrics_every": 10, "patience": 10, "slow_window": 20},
            "--metrics-every 10 leaves fewer than two measured epochs",
        ),
        ({"fid_features": "none", "threshold_fid_gen": 1.0}, "--threshold-fid-gen has no effect"),
        ({"init_dim": 10**12}, "--init-dim must be 65536 or less"),
        ({"metrics_every": 0}, "--metrics-every must be 1 or more"),
        ({"init_dim": 1}, "--init-dim must be 2 or more, not 1"),
        ({"init_dim": 5, "min_dim": 6}, "--init-dim 5 is below the smallest size, --min-dim 6"),
        ({"epochs": 0}, "--epochs must be 1 or more"),
        ({"epochs": -3}, "--epochs must be 1 or more"),
        ({"patience": 0}, "--patience must be 1 or more"),
        ({"window": 1}, "--window must be 2 or more"),
        ({"limit": 0}, "--limit must be 2 or more"),
        ({"seed": -1}, "--seed must be 0 or more"),
        ({"lr": 0.0}, "--lr must be a positive number"),
        ({"warmup": 1.0}, "--warmup must be 0 or more and less than 1, not 1"),
        ({"warmup": -0.1}, "--warmup must be 0 or more and less than 1"),
        ({"lr": float("nan")}, "--lr must be a positive number"),
        ({"beta": -1.0}, "--beta must be zero or a positive number"),
        ({"batch_size": 0}, "--batch-size must be 1 or more"),
        ({"fid_samples": 1}, "--fid-samples must be 2 or more"),
        ({"silhouette_samples": 10}, "--silhouette-samples must be 11 or more"),
        ({"threshold_silhouette": float("nan")}, "--threshold-silhouette must be a number"),
    ],
)
def test_an_invalid_setting_is_refused_by_name(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        resolve("adaptive", changes.pop("dataset", "digits"), **changes)


def test_an_invalid_number_of_threads_is_refused() -> None:
    with pytest.raises(ConfigError, match="--threads must be 1 to 1024"):
        Execution(threads=0)


def test_warns_of_probable_mistakes() -> None:
    assert "cannot stop" in resolve("adaptive", "digits", epochs=10).notes()[0]
    assert "without FID, on recon_loss and silhouette" in resolve("adaptive", "digits", fid_features="none").notes()[0]
    assert resolve("adaptive", "digits").notes() == []


def test_the_data_directory_may_come_from_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ALDVAE_DATA_DIR", "/elsewhere")
    assert Execution().data_directory == Path("/elsewhere")
    assert Execution(data_dir=Path("/here")).data_directory == Path("/here")


def test_a_softmax_posterior_is_not_consolidated() -> None:
    config = resolve("adaptive", "digits", protocol="recommended", posterior="softmax", init_dim=16)
    assert (config.rule, config.training.warmup) == ("robust", 0.2)
    with pytest.raises(ConfigError, match=r"--posterior softmax ties .*; use --rule robust"):
        resolve("adaptive", "digits", rule="consolidate", posterior="softmax")
