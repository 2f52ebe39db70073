"""What an epoch costs does not grow with the number of epochs before it."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from aldvae.compression.rules.base import AnyRule, Decision
from aldvae.compression.rules.consolidate import ConsolidatingRule
from aldvae.compression.rules.robust import RobustRule
from aldvae.compression.rules.slopes import RULE_METRICS, AuthorsRule, Observation, PaperRule, SlopeState
from aldvae.compression.steps import Step
from aldvae.config.execution import Execution
from aldvae.runs import tables
from aldvae.training.callbacks import Callback, Row
from aldvae.training.loop import run
from aldvae.training.optimizer import EagerAdam
from aldvae.utils.errors import ConfigError
from tests.conftest import TINY, resolve
from tests.test_training import Interrupt, contents, tiny

RANDOM = np.random.default_rng(0)


@pytest.fixture
def short_tails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a checkpoint hold 300 bytes of a table instead of 16,384."""
    monkeypatch.setattr(tables, "MOST_BYTES", 300)


class Watch(Callback):
    """Records after each epoch the size of the checkpoint, and size and inode of each table."""

    def __init__(self, directory: Path) -> None:
        self.directory, self.sizes = directory, list[int]()
        self.tables: dict[str, list[tuple[int, int]]] = {}

    def on_epoch_end(self, epoch: int, row: Row, step: Step | None) -> None:  # noqa: ARG002
        self.sizes.append((self.directory / "checkpoint.pt").stat().st_size)
        for path in self.directory.glob("*.csv"):
            self.tables.setdefault(path.name, []).append((path.read_text().count("\n"), path.stat().st_ino))


@pytest.mark.usefixtures("short_tails")
def test_neither_checkpoints_nor_what_an_epoch_writes_grow(tmp_path: Path) -> None:
    names = ("limit", "hidden_dim", "init_dim", "silhouette_samples")
    values: dict[str, Any] = {name: TINY[name] for name in names} | {"epochs": 40, "fid_features": "none"}
    config = resolve("fixed", "digits", **values)
    watch = Watch(tmp_path / config.name)
    run(config, Execution(results_dir=tmp_path), watch)
    # Four tables; each tail holds at most 300 bytes and the rows of one epoch. All rows together are some 13,000 bytes.
    assert max(watch.sizes) - min(watch.sizes) < 4 * (300 + 400)
    rows = sum(path.stat().st_size for path in (tmp_path / config.name).glob("*.csv"))
    assert rows > 10_000
    for name, states in watch.tables.items():
        lines = np.diff([count for count, _ in states])
        assert set(lines) == {14} if name == "latent.csv" else set(lines) <= {0, 1}, name
        assert len({inode for _, inode in states}) == 1, f"{name} is written anew"


@pytest.mark.usefixtures("short_tails")
@pytest.mark.parametrize("after", [1, 3, 5])
def test_a_run_resumes_from_tables_of_which_the_checkpoint_holds_the_end_alone(tmp_path: Path, after: int) -> None:
    whole = run(tiny(), Execution(results_dir=tmp_path / "whole")).path
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), Execution(results_dir=tmp_path), Interrupt(after))
    with (tmp_path / tiny().name / "latent.csv").open("a") as file:
        file.write(f"{after + 1},3,0.1\n{after + 1},4")
    assert contents(run(tiny(), Execution(results_dir=tmp_path)).path) == contents(whole)


@pytest.mark.usefixtures("short_tails")
@pytest.mark.parametrize("change", ["lost", "edited", "deleted"])
def test_rows_that_the_checkpoint_counts_on_and_that_are_gone_are_reported(tmp_path: Path, change: str) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), Execution(results_dir=tmp_path), Interrupt(4))
    table = tmp_path / tiny().name / "latent.csv"
    text = table.read_text()
    table.write_text(text[:100] if change == "lost" else text.replace("1,0,", "1,9,", 1))
    if change == "deleted":
        table.unlink()
    with pytest.raises(ConfigError, match=r"latent\.csv has lost or changed rows; put them back, or delete checkpoint"):
        run(tiny(), Execution(results_dir=tmp_path))
    table.write_text(text)
    assert run(tiny(), Execution(results_dir=tmp_path)).summary["epochs"] == 6


def test_checkpoints_that_hold_whole_tables_are_read(tmp_path: Path) -> None:
    """Those of version 0.1.0."""
    whole = run(tiny(), Execution(results_dir=tmp_path / "whole")).path
    with pytest.raises(KeyboardInterrupt):
        run(tiny(), Execution(results_dir=tmp_path), Interrupt(3))
    path = tmp_path / tiny().name / "checkpoint.pt"
    checkpoint = torch.load(path, weights_only=True)
    checkpoint["tables"] = {name: (path.parent / f"{name}.csv").read_text() for name in checkpoint["tables"]}
    torch.save(checkpoint, path)
    (path.parent / "latent.csv").unlink()
    callback = Interrupt()
    assert contents(run(tiny(), Execution(results_dir=tmp_path), callback).path) == contents(whole)
    assert callback.epochs == [4, 5, 6]


def decisions(rule: AnyRule, epochs: Sequence[Mapping[str, Any]], sizes: list[int]) -> list[Decision | None]:
    """Return what `rule` decides on these epochs; append the size of its state after each to `sizes`."""
    state, found, size, before = rule.init(), list[Decision | None](), 40, 40
    for epoch, values in enumerate(epochs, start=1):
        kl = list(values["kl"][:size]) if "kl" in values else None
        state, decision = rule.adapt(state, epoch, size, {k: v for k, v in values.items() if k != "kl"}, kl)
        sizes.append(len(json.dumps(asdict(state))))
        found.append(decision)
        if decision is not None:
            size = before if decision.undo else size
            before, size = size, size - decision.remove
    return found


@pytest.mark.parametrize("rule", [PaperRule(), AuthorsRule(), RobustRule(), ConsolidatingRule(epochs=1000)])
def test_the_state_of_a_rule_does_not_grow(rule: AnyRule) -> None:
    epochs = [
        {**{m: RANDOM.random() for m in RULE_METRICS}, "kl": (RANDOM.random(40) / 5).tolist()} for _ in range(1000)
    ]
    sizes: list[int] = []
    decisions(rule, epochs, sizes)
    assert max(sizes[500:]) <= 1.1 * max(sizes[100:500])


losses = st.lists(st.floats(50, 60), min_size=60, max_size=60)


@settings(max_examples=50, deadline=None)
@given(losses, st.integers(1, 4), st.booleans())
def test_a_robust_rule_that_remembered_everything_would_decide_the_same(
    values: list[float], patience: int, falls: bool
) -> None:
    class Remembering(RobustRule):
        def _needed(self, history: Any, age: int) -> Any:  # noqa: ARG002
            return history

    epochs = [{"recon_loss": v - falls * i, "kl": [2.0] * 40} for i, v in enumerate(values)]
    forgetting, all_of_it = (decisions(kind(patience=patience), epochs, []) for kind in (RobustRule, Remembering))
    assert forgetting == all_of_it


@settings(max_examples=50, deadline=None)
@given(st.lists(st.floats(-1, 1), min_size=60, max_size=60), st.integers(2, 12), st.integers(2, 12), st.booleans())
def test_a_paper_rule_that_remembered_everything_would_decide_the_same(
    values: list[float], window: int, slow_window: int, authors: bool
) -> None:
    rule = (AuthorsRule if authors else PaperRule)(window=window + 1, slow_window=slow_window, patience=2)
    state, complete = rule.init(), tuple[Observation, ...]()
    for epoch, value in enumerate(values, start=1):
        metrics = dict.fromkeys(RULE_METRICS, value)
        complete, slow = (*complete, Observation(epoch, metrics)), state.slow
        state, decision = rule.adapt(state, epoch, 40, metrics)
        if decision is not None:
            assert rule._decide(SlopeState(complete, slow), epoch, 40)[1] == decision
        assert len(state.history) <= max(window + 1, 2 * slow_window)


IMPORTED = """
import sys
from pathlib import Path
from aldvae.config.execution import Execution
from aldvae.config.resolve import Overrides, resolve
from aldvae.training.loop import run

settings = {"limit": 200, "epochs": 2, "hidden_dim": 16, "fid_samples": 50, "silhouette_samples": 50}
run(resolve("adaptive", "digits", Overrides(settings)), Execution(results_dir=Path(sys.argv[1])))
print(*sys.modules)
"""


def test_a_run_imports_nothing_slow_that_it_does_not_need(tmp_path: Path) -> None:
    line = [sys.executable, "-c", IMPORTED, str(tmp_path)]
    imported = subprocess.run(line, check=True, capture_output=True, text=True).stdout.split()
    assert "sklearn.cluster" in imported
    slow = {"torch._dynamo", "torchvision", "matplotlib.pyplot", "matplotlib", "pytorch_fid", "sympy"}
    assert slow & set(imported) == set()


def test_the_optimiser_is_adam_bit_for_bit_and_does_not_import_the_compiler() -> None:
    start = torch.randn(20, 10, generator=torch.Generator().manual_seed(0))
    results = []
    for kind in (torch.optim.Adam, EagerAdam):
        parameter = torch.nn.Parameter(start.clone())
        optimizer = kind([parameter], lr=0.01, amsgrad=True, fused=True)
        for _ in range(5):
            optimizer.zero_grad()
            parameter.square().sum().backward()
            optimizer.step()
        results.append((parameter.detach(), optimizer.state_dict()["state"][0]))
    (ours, state), (theirs, expected) = results
    assert torch.equal(ours, theirs)
    assert all(torch.equal(state[name], expected[name]) for name in expected)
