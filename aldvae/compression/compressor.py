"""Adaptive compression as one object in the user's own training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from aldvae.compression.consolidation import consolidate
from aldvae.compression.information import Directions
from aldvae.compression.rules.base import AnyRule, Decision
from aldvae.compression.rules.slopes import PaperRule
from aldvae.compression.selection import selection
from aldvae.compression.snapshot import Snapshot
from aldvae.compression.surgery import add_neurons, freeze, latent_size, linear_layers, remove_neurons
from aldvae.utils.errors import ArgumentError
from aldvae.utils.seeding import generator


@dataclass(frozen=True)
class Step:
    """What one call of `Compressor.step` did.

    `latent_dim` is the size after it, `decision` what the rule decided, None if no decision was due. `removed` holds
    the positions that were removed, as they were before this call; `neurons` names the same neurons by their positions
    in the initial model. If the decision has `undo`, model and optimiser were first restored to before the trial.
    `directions` are the principal directions that a rule which consolidates judged.
    """

    latent_dim: int
    decision: Decision | None = None
    removed: tuple[int, ...] = ()
    neurons: tuple[int, ...] = ()
    directions: Directions | None = None


class TrialBackup(NamedTuple):
    """What is needed to undo a removal on trial."""

    snapshot: Snapshot
    neurons: list[int]
    kl: list[float] | None


class Compressor:
    """Shrinks the latent space of a VAE while it trains; used like a learning-rate scheduler.

    ::

        compressor = aldvae.Compressor(heads=[vae.mu, vae.log_var], readers=[vae.decoder[0]], optimizer=optimizer)
        for epoch in range(200):
            train_one_epoch(vae, optimizer)
            compressor.step(recon_loss=..., silhouette=..., fid_recon=..., fid_gen=...)

    Args:
        heads: the linear layers that write the latent vector: n_z outputs each, or a multiple of n_z if one layer
            writes means and log-variances, to be split with `chunk`. They are shrunk in place.
        readers: the linear layers that read it, n_z inputs each. They are shrunk in place.
        optimizer: keeps its state for the weights that are kept; None if the layers are not trained by one. A rule
            that may undo a removal needs it.
        rule: decides when to remove and when to stop. The default is the paper's, which uses the four metrics above.
            `ConsolidatingRule`, the recommended one, needs `mu` and `log_var` alone, and `epochs`; `RobustRule` needs
            `recon_loss` and `kl`. `Rule` says how to write your own.
        select: which neurons to remove: ``"random"`` (the paper), ``"kl"`` (lowest KL divergence; needs `kl` at every
            step) or ``"last"``. The default depends on the rule.
        seed: for the random selection.
        stop: whether to obey the rule's stop. If not, removal goes on down to the rule's smallest size, and
            `stop_epoch` and `stop_latent_dim` say where it would have stopped.
        freeze: whether to stop training heads and readers at the first removal (the authors' code); the optimiser then
            no longer holds them.
        epochs: the number of epochs, if known. Nothing is removed at the last one, since no training would follow.

    Attributes:
        neurons: the positions in the initial model of the neurons that are left, in ascending order; after the first
            consolidation 0 to n_z - 1, since the dimensions are others then, those with most information first.
        epoch: the number of calls of `step` so far.
        stop_epoch: the epoch at which the rule stopped or, with `stop=False`, would have; None before.
        stop_latent_dim: the size with which it stopped, or would have; None before.
        answer: the last decision that tells `n_informative`, the number of dimensions that carry information; None if
            there was none. The model may keep more of them than that, `latent_dim`.

    Raises `TypeError` or `ValueError` if the layers do not fit together, and `ArgumentError` (a `ValueError`) for an
    unknown `select` and for an argument that the rule does not support.
    """

    def __init__(
        self,
        *,
        heads: Sequence[nn.Module],
        readers: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer | None,
        rule: AnyRule | None = None,
        select: str | None = None,
        seed: int = 0,
        stop: bool = True,
        freeze: bool = False,
        epochs: int | None = None,
    ) -> None:
        """See the class."""
        self.heads, self.readers, self.optimizer = linear_layers(heads), linear_layers(readers), optimizer
        self.rule: AnyRule = rule if rule is not None else PaperRule()
        if epochs is not None:
            self.rule = self.rule.with_epochs(epochs)
        self.select = select if select is not None else self.rule.default_select
        self._selection = selection(self.select)
        _check_support(self.rule, self.select, optimizer, stop=stop, freeze=freeze)
        # A rule that does not inherit from `Rule` may have been written before there was consolidation.
        self._consolidates = getattr(self.rule, "consolidates", False)
        if self._consolidates:
            _check_heads(self.rule, self.heads, self.readers)
        self.seed, self.stop, self.freeze, self.epochs = seed, stop, freeze, epochs
        self.epoch = 0
        self.neurons = list(range(latent_size(self.heads, self.readers)))
        self.stop_epoch: int | None = None
        self.stop_latent_dim: int | None = None
        self.answer: Decision | None = None
        self._state = self.rule.init()
        self._backup: TrialBackup | None = None

    @property
    def latent_dim(self) -> int:
        """The current latent size, n_z."""
        return len(self.neurons)

    @property
    def found(self) -> bool:
        """Whether the rule has stopped; with `stop=False`, whether it would have."""
        return self.stop_epoch is not None

    @property
    def needs_posterior(self) -> bool:
        """Whether the next call of `step` needs `mu` and `log_var`, which may be left out otherwise."""
        stopped = self.found and self.stop
        return self._consolidates and not stopped and self.rule.is_due(self.epoch + 1)

    def step(
        self,
        *,
        kl: Sequence[float] | torch.Tensor | None = None,
        mu: torch.Tensor | None = None,
        log_var: torch.Tensor | None = None,
        **metrics: float,
    ) -> Step:
        """Take in the metrics at the end of an epoch; shrink the layers if the rule says so.

        `metrics` are means over validation samples, `kl` the KL divergence of each dimension (n_z,) in nats;
        `recon_loss` in nats per sample: summed, not averaged, over the values of a sample. Leave all of them out for an
        epoch that was not measured. A rule that consolidates needs instead the posterior's means `mu` and
        log-variances `log_var`, each (N, n_z), of some 1,000 validation samples or more, and, during a warm-up, the
        present weight of the KL divergence as `beta`.

        Raises `KeyError` if the rule needs a metric that is missing, `ArgumentError` if the selection needs `kl` and it
        is missing, and `ValueError` for NaN, for a decision that leaves fewer than 2 dimensions, and for one on trial
        by a rule without `can_undo`.
        """
        self.epoch += 1
        if self.found and self.stop:
            return Step(self.latent_dim)
        kl_values, directions = _to_list(kl), self._directions(mu, log_var)
        if directions is not None:
            kl_values, beta = list(directions.unique), self._beta
            metrics = {**metrics, "copies": directions.copies(beta)}
        self._state, decision = self.rule.adapt(self._state, self.epoch, self.latent_dim, metrics, kl_values)
        if decision is None:
            return Step(self.latent_dim, directions=directions)
        if (decision.trial or decision.undo) and not self.rule.can_undo:
            raise ValueError(f"{type(self.rule).__name__} must declare `can_undo = True` to remove on trial")
        if decision.n_informative is not None:
            self.answer = decision
        if directions is not None:
            return self._consolidate(decision, directions)
        if decision.undo and self._backup is not None:
            kl_values = self._undo(self._backup)
        self._backup = None
        return self._apply(decision, kl_values)

    @property
    def _beta(self) -> float:
        return float(getattr(self.rule, "beta", 1.0))

    def _directions(self, mu: torch.Tensor | None, log_var: torch.Tensor | None) -> Directions | None:
        if not self._consolidates or mu is None or log_var is None or not self.rule.is_due(self.epoch):
            return None
        for name, value in (("mu", mu), ("log_var", log_var)):
            if value.ndim != 2 or value.shape[1] != self.latent_dim:
                raise ArgumentError(name, f"must be (N, {self.latent_dim}), not {tuple(value.shape)}")
        return Directions.measure(mu, log_var, self._beta)

    def _consolidate(self, decision: Decision, directions: Directions) -> Step:
        """Rewrite the latent space in the directions that the decision keeps, and add the dimensions it asks for."""
        if decision.keep is not None and self.epoch != self.epochs:
            mu, log_var = self.heads
            consolidate(
                mu=mu,
                log_var=log_var,
                readers=self.readers,
                statistics=directions.statistics,
                keep=decision.keep,
                optimizer=self.optimizer,
            )
            self._grow(decision.grow)
        self.neurons = list(range(self.heads[0].out_features))
        if decision.stop:
            self.stop_epoch, self.stop_latent_dim = self.epoch, self.latent_dim
        return Step(self.latent_dim, decision, directions=directions)

    def _grow(self, n: int) -> None:
        if n > 0:
            random = generator(self.seed, "growth", self.epoch)
            add_neurons(self.heads, self.readers, n, self.optimizer, random=random)

    def _apply(self, decision: Decision, kl: list[float] | None) -> Step:
        stops = decision.stop and not self.found
        n = decision.remove_if_continuing if decision.stop and not self.stop else decision.remove
        # No training follows the last epoch. A removal that comes with the stop needs none.
        is_last = self.epoch == self.epochs and not (decision.stop and self.stop)
        step = self._remove(0 if is_last else n, decision, kl)
        if stops:
            self.stop_epoch, self.stop_latent_dim = self.epoch, self.latent_dim if self.stop else decision.latent_dim
        return step

    def _remove(self, n: int, decision: Decision, kl: list[float] | None) -> Step:
        if n == 0:
            return Step(self.latent_dim, decision)
        positions = self._selection(latent_dim=self.latent_dim, n=n, seed=self.seed, epoch=self.epoch, kl=kl)
        if decision.trial:
            snapshot = Snapshot.take([*self.heads, *self.readers], self.optimizer)
            self._backup = TrialBackup(snapshot, list(self.neurons), kl)
        self._shrink(positions)
        removed = tuple(self.neurons[position] for position in positions)
        self.neurons = [neuron for neuron in self.neurons if neuron not in removed]
        return Step(self.latent_dim, decision, tuple(positions), removed)

    def _undo(self, backup: TrialBackup) -> list[float] | None:
        """Undo the removal on trial; return the KL divergences from before it."""
        backup.snapshot.restore([*self.heads, *self.readers], self.optimizer)
        self.neurons = list(backup.neurons)
        return backup.kl

    def _shrink(self, positions: list[int]) -> None:
        remove_neurons(self.heads, self.readers, positions, self.optimizer)
        if self.freeze and positions:
            freeze([*self.heads, *self.readers], self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as numbers, lists and dictionaries, and, during a trial, the tensors needed to undo it."""
        return {
            "epoch": self.epoch,
            "neurons": list(self.neurons),
            "stop_epoch": self.stop_epoch,
            "stop_latent_dim": self.stop_latent_dim,
            "answer": self.answer and asdict(self.answer),
            "rule": asdict(self._state),
            "before": self._backup and (self._backup.snapshot.to_state(), self._backup.neurons, self._backup.kl),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned, and shrink or extend the layers to its size.

        Call it on a fresh model of the initial size, before you load the states of the model and of the optimiser:
        their shapes fit only then.
        """
        kept = set(state["neurons"])
        self._shrink([position for position, neuron in enumerate(self.neurons) if neuron not in kept])
        self._grow(len(kept - set(self.neurons)))
        self.epoch, self.neurons = state["epoch"], list(state["neurons"])
        self.stop_epoch, self.stop_latent_dim = state["stop_epoch"], state["stop_latent_dim"]
        # Checkpoints of version 0.1.0 have no answer.
        answer = state.get("answer")
        self.answer = None if answer is None else Decision(**answer)
        self._state = self.rule.restore(state["rule"])
        self._backup = None
        if state["before"] is not None:
            snapshot, neurons, kl = state["before"]
            self._backup = TrialBackup(Snapshot.from_state(snapshot), list(neurons), kl)


def _to_list(kl: Sequence[float] | torch.Tensor | None) -> list[float] | None:
    if isinstance(kl, torch.Tensor):
        return [float(value) for value in kl.tolist()]
    return None if kl is None else [float(value) for value in kl]


def _check_heads(rule: AnyRule, heads: Sequence[nn.Linear], readers: Sequence[nn.Linear]) -> None:
    size = latent_size(heads, readers)
    if len(heads) != 2 or any(head.out_features != size for head in heads):
        problem = f"must be two layers of {size} outputs each, means first, then log-variances, with"
        raise ArgumentError("heads", f"{problem} {type(rule).__name__}")


def _check_support(
    rule: AnyRule, select: str, optimizer: torch.optim.Optimizer | None, *, stop: bool, freeze: bool
) -> None:
    """Raise `ArgumentError` for an argument of `Compressor` that `rule` declares not to support."""
    name = type(rule).__name__
    if select != rule.default_select and not rule.supports_any_select:
        raise ArgumentError("select", f"must be {rule.default_select} with {name}, not {select}")
    if not stop and not rule.supports_no_stop:
        raise ArgumentError("stop", f"must be True with {name}, which removes nothing after its stop")
    if rule.can_undo and optimizer is None:
        raise ArgumentError("optimizer", f"must be given with {name}, which may undo a removal")
    if getattr(rule, "consolidates", False) and freeze:
        raise ArgumentError("freeze", f"must be False with {name}: dimensions that it rewrites must go on training")
    if rule.can_undo and freeze:
        raise ArgumentError("freeze", f"must be False with {name}: a removal of frozen layers cannot be undone")
