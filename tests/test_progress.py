"""What a run says while it works."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aldvae.compression.rules.base import Decision
from aldvae.compression.steps import Step
from aldvae.config.execution import Execution
from aldvae.training.curve import Plan
from aldvae.training.loop import run
from aldvae.training.phases import Phases
from aldvae.training.progress import Display, planned_curve_epochs
from tests.conftest import TINY, resolve

RECOMMENDED: dict[str, Any] = {"protocol": "recommended", "init_dim": 100, "epochs": 10}


def step(size: int, n: int | None = None, **decision: Any) -> Step:
    return Step(size, Decision(1, size, n_informative=n, **decision))


def test_the_words_follow_the_rule_from_warm_up_to_the_end() -> None:
    phases = Phases(resolve("adaptive", "digits", **RECOMMENDED))
    assert phases.describe(1, 100, Step(100)) == "warm-up: size 100"
    assert phases.describe(2, 100, step(100, 11)) == "settling: 11 of 100 carry information"
    assert phases.describe(3, 100, Step(100)) == "settling: 11 of 100 carry information"
    assert phases.describe(4, 100, step(17, 1)) == "settling: 1 of 17 carries information"
    assert phases.describe(5, 17, step(17, 11, settled_epoch=4)) == "settled: 11 of 17 carry information"
    assert phases.describe(6, 17, step(17, 12)) == "settling: 12 of 17 carry information"
    assert phases.describe(9, 17, step(12, 12, stop=True)) == "final: 12 of 12 carry information"


def test_the_words_of_rules_that_count_nothing_and_of_fixed_sizes() -> None:
    paper = Phases(resolve("adaptive", "digits"))
    assert paper.describe(5, 32, step(27)) == "compressing: size 27"
    assert paper.describe(10, 27, step(27, stop=True)) == "final: size 27"
    unstopped = Phases(resolve("adaptive", "digits", stop=False))
    assert unstopped.describe(10, 27, step(22, stop=True)) == "compressing: size 22"
    assert Phases(resolve("fixed", "digits", init_dim=8)).describe(1, 8, None) == "training: size 8"
    # What was decided before is not known.
    assert Phases(resolve("adaptive", "digits"), 7).describe(7, 27, Step(27)) == "training: size 27"


def test_the_time_left_includes_the_curve(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    config = resolve("adaptive", "digits", **RECOMMENDED)
    clock = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: clock[0])
    display = Display()
    display.on_start(config, 1)
    clock[0] = 60.0
    display.on_epoch_end(1, {"latent_dim": 100}, step(100, 6))
    # Nine epochs of the run, and four of its curve, at the sizes 5, 4, 3 and 2.
    assert planned_curve_epochs(config, 6) == Plan.make(6, 10, None).total == 4
    assert "13:00 left" in capsys.readouterr().err
    display.on_curve_epoch(1, 4, 5)
    assert "epoch 11/14  curve: size 5  1:30 left" in capsys.readouterr().err


def test_a_log_has_plain_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    settings = {**TINY, "epochs": 24, "limit": 100, "fid_features": "none", "silhouette_samples": 30, "min_dim": 6}
    config = resolve("adaptive", "digits", **settings, curve=True)
    with Display() as display:
        run(config, Execution(results_dir=tmp_path, threads=1), display)
    text = capsys.readouterr().err
    assert text.replace("\n", "").isprintable()
    lines = text.splitlines()
    epochs = [line for line in lines if line.startswith("epoch ")]
    assert len(epochs) == 24 + 4
    assert "compressing: size" in epochs[0]
    assert "curve: size 2" in epochs[-1]
    assert all(line.endswith(" left") for line in epochs)
