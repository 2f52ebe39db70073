"""Rules that users write: `Compressor` relies on what they declare, not on their class."""

from __future__ import annotations

import ast
import copy
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar, Self

import pytest
import torch
from torch import Tensor, nn

import aldvae
from aldvae.compression.rules.base import AnyRule, Decision, Rule

# The epochs at which the rules below remove three neurons on trial, undo it, remove a single neuron for good, and stop.
TRIAL, UNDO, REMOVE, STOP = 2, 5, 6, 7


@dataclass(frozen=True)
class TrialState:
    """The size before the removal on trial, and whether it has been undone."""

    size: int = 0
    undone: bool = False


def decide(state: TrialState, epoch: int, latent_dim: int) -> tuple[TrialState, Decision | None]:
    if epoch == TRIAL:
        return TrialState(latent_dim), Decision(epoch, latent_dim, 3, trial=True)
    if epoch == UNDO:
        return replace(state, undone=True), Decision(epoch, state.size, undo=True)
    if epoch == REMOVE:
        return state, Decision(epoch, latent_dim, 1 if state.undone else 0)
    return state, Decision(epoch, latent_dim, stop=True) if epoch == STOP else None


class InheritingRule(Rule[TrialState]):
    """Inherits defaults from `Rule`."""

    default_select = "last"
    can_undo = True

    def init(self) -> TrialState:
        return TrialState()

    def restore(self, stored: Mapping[str, Any]) -> TrialState:
        return TrialState(**stored)

    def adapt(
        self,
        state: TrialState,
        epoch: int,
        latent_dim: int,
        metrics: Mapping[str, float],  # noqa: ARG002
        kl: Sequence[float] | None = None,  # noqa: ARG002
    ) -> tuple[TrialState, Decision | None]:
        return decide(state, epoch, latent_dim)


class PlainRule:
    """Inherits nothing and defines every member of `Rule`."""

    default_select: ClassVar[str] = "last"
    supports_any_select: ClassVar[bool] = True
    supports_no_stop: ClassVar[bool] = True
    can_undo: ClassVar[bool] = True

    def init(self) -> TrialState:
        return TrialState()

    def restore(self, stored: Mapping[str, Any]) -> TrialState:
        return TrialState(**stored)

    def adapt(
        self,
        state: TrialState,
        epoch: int,
        latent_dim: int,
        metrics: Mapping[str, float],  # noqa: ARG002
        kl: Sequence[float] | None = None,  # noqa: ARG002
    ) -> tuple[TrialState, Decision | None]:
        return decide(state, epoch, latent_dim)

    def with_epochs(self, epochs: int) -> Self:  # noqa: ARG002
        return self


class Small(nn.Module):
    """One layer for both heads, and two readers."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.heads = nn.Linear(6, 8), nn.Linear(8, 20)
        self.decoder, self.classifier = nn.Linear(10, 6), nn.Linear(10, 3)

    def forward(self, x: Tensor) -> Tensor:
        mu, log_var = self.heads(self.encoder(x).relu()).chunk(2, dim=1)
        z = mu * log_var.exp()
        return torch.cat([self.decoder(z), self.classifier(z)], dim=1)


class Training:
    """A model, its optimiser and its compressor, trained on data that depend on the epoch alone."""

    def __init__(self, rule: AnyRule, model: Small) -> None:
        self.model = model
        self.optimizer = torch.optim.Adam(model.parameters(), lr=0.01, amsgrad=True)
        self.compressor = aldvae.Compressor(
            heads=[aldvae.Head(model.heads, layout="blocks")],
            readers=[model.decoder, model.classifier],
            optimizer=self.optimizer,
            rule=rule,
        )

    def train(self) -> None:
        x = torch.randn(5, 6, generator=torch.Generator().manual_seed(self.compressor.epoch))
        for _ in range(3):
            self.optimizer.zero_grad()
            self.model(x).square().sum().backward()
            self.optimizer.step()

    def advance(self, last: int) -> aldvae.Step | None:
        """Train and step until epoch `last` is done; return the last step."""
        step = None
        while self.compressor.epoch < last:
            self.train()
            step = self.compressor.step()
        return step

    def values(self) -> tuple[dict[str, Tensor], list[dict[str, Any]]]:
        """Return copies of all parameters and of the state that the optimiser holds for each."""
        states = [self.optimizer.state[parameter] for parameter in self.model.parameters()]
        return copy.deepcopy(self.model.state_dict()), copy.deepcopy(states)

    def reloaded(self, rule: AnyRule) -> Training:
        """Save this training to a file; return a copy that is restored from it."""
        file = io.BytesIO()
        torch.save([self.compressor.state_dict(), self.model.state_dict(), self.optimizer.state_dict()], file)
        file.seek(0)
        state, weights, moments = torch.load(file, weights_only=True)
        restored = Training(rule, Small())
        restored.compressor.load_state_dict(state)
        restored.model.load_state_dict(weights)
        restored.optimizer.load_state_dict(moments)
        return restored


def assert_equal(actual: Any, expected: Any) -> None:
    """Assert that shapes and all bits are equal."""
    torch.testing.assert_close(actual, expected, rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("resumed_at", [None, TRIAL, TRIAL + 1, UNDO - 1])
@pytest.mark.parametrize("rule", [InheritingRule(), PlainRule()], ids=["inheriting", "plain"])
def test_a_users_rule_removes_on_trial_and_undoes(rule: AnyRule, resumed_at: int | None) -> None:
    torch.manual_seed(0)
    training = Training(rule, Small())
    training.advance(TRIAL - 1)
    training.train()
    before = training.values()
    step = training.compressor.step()
    assert (step.latent_dim, step.neurons) == (7, (7, 8, 9))
    if resumed_at is not None:
        training.advance(resumed_at)
        training = training.reloaded(rule)
    training.advance(UNDO - 1)
    training.train()
    assert not torch.equal(training.model.encoder.weight, before[0]["encoder.weight"])
    assert training.compressor.step().latent_dim == 10

    assert_equal(training.values(), before)
    in_optimizer = [id(parameter) for group in training.optimizer.param_groups for parameter in group["params"]]
    assert in_optimizer == [id(parameter) for parameter in training.model.parameters()]
    step = training.advance(REMOVE) or step
    assert (step.latent_dim, step.neurons) == (9, (9,))
    training.advance(STOP)
    assert training.compressor.found
    assert (training.model.heads.out_features, training.model.classifier.in_features) == (18, 9)


class CarefulRule(InheritingRule):
    """Supports only the default arguments."""

    supports_any_select = False
    supports_no_stop = False


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("optimizer", None, "optimizer must be given with CarefulRule"),
        ("freeze", True, "freeze must be False with CarefulRule"),
        ("stop", False, "stop must be True with CarefulRule"),
        ("select", "random", "select must be last with CarefulRule, not random"),
    ],
)
def test_an_argument_that_a_rule_does_not_support_is_refused(name: str, value: Any, message: str) -> None:
    model = Small()
    arguments: dict[str, Any] = {"optimizer": torch.optim.Adam(model.parameters()), name: value}
    layers: dict[str, Any] = {
        "heads": [aldvae.Head(model.heads, "blocks")],
        "readers": [model.decoder, model.classifier],
    }
    with pytest.raises(ValueError, match=f"^{message}"):
        aldvae.Compressor(**layers, **arguments, rule=CarefulRule())
    if name in ("stop", "select"):
        aldvae.Compressor(**layers, **arguments, rule=InheritingRule())


class SilentRule(InheritingRule):
    """Removes on trial without declaring it."""

    can_undo = False


def test_a_rule_must_declare_that_it_removes_on_trial() -> None:
    training = Training(SilentRule(), Small())
    with pytest.raises(ValueError, match="SilentRule must declare `can_undo = True`"):
        training.advance(TRIAL)
    assert training.compressor.latent_dim == 10


@dataclass(frozen=True)
class PlanningRule(InheritingRule):
    """Stores the number of epochs."""

    epochs: int | None = None

    def with_epochs(self, epochs: int) -> Self:
        return replace(self, epochs=epochs)


def test_a_rule_receives_the_number_of_epochs() -> None:
    model = Small()

    def epochs_of(epochs: int | None) -> int | None:
        layers: dict[str, Any] = {
            "heads": [aldvae.Head(model.heads, "blocks")],
            "readers": [model.decoder, model.classifier],
        }
        optimizer = torch.optim.Adam(model.parameters())
        rule = aldvae.Compressor(**layers, optimizer=optimizer, rule=PlanningRule(), epochs=epochs).rule
        assert isinstance(rule, PlanningRule)
        return rule.epochs

    assert epochs_of(30) == 30
    assert epochs_of(None) is None


def test_no_code_compares_the_class_or_the_name_of_a_rule() -> None:
    for path in (Path(__file__).parents[1] / "aldvae").rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            compares = isinstance(node, ast.Compare) or (
                isinstance(node, ast.Call) and ast.unparse(node.func) == "isinstance"
            )
            text = ast.unparse(node)
            assert not (compares and re.search(r"'(robust|paper|authors)'|\w+Rule\b", text)), f"{path}: {text}"


def test_a_rule_that_forgets_to_decide_cannot_be_made() -> None:
    class Undecided(Rule[int]):
        def init(self) -> int:
            return 0

        def restore(self, stored: Mapping[str, Any]) -> int:  # noqa: ARG002
            return 0

    with pytest.raises(TypeError, match="adapt"):
        Undecided()  # type: ignore[abstract]
