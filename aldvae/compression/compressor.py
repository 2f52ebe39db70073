"""Adaptive compression as one object in the user's own training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import nn

from aldvae.compression.rules.base import AnyRule, Decision
from aldvae.compression.rules.slopes import PaperRule
from aldvae.compression.selection import selection
from aldvae.compression.snapshot import Snapshot
from aldvae.compression.surgery import freeze, latent_size, linear_layers, remove_neurons
from aldvae.utils.errors import ArgumentError


@dataclass(frozen=True)
class Step:
    """What one call of `Compressor.step` did: the rule's decision and the positions removed because of it.

    `latent_dim` is the size after it. `neurons` names the removed ones by their position in the first, full model.
    Where the decision undid a removal, model and optimiser are what they were before that one.
    """

    latent_dim: int
    decision: Decision | None = None
    removed: tuple[int, ...] = ()
    neurons: tuple[int, ...] = ()


class _Before(NamedTuple):
    """What a removal on trial can be undone to."""

    snapshot: Snapshot
    neurons: list[int]
    kl: list[float]


class Compressor:
    """Shrinks the latent space of a VAE while it trains, in the manner of a learning-rate scheduler.

    ::

        compressor = aldvae.Compressor(heads=[vae.mu, vae.log_var], readers=[vae.decoder[0]], optimizer=optimizer)
        for epoch in range(200):
            train_one_epoch(vae, optimizer)
            compressor.step(recon_loss=..., silhouette=..., fid_recon=..., fid_gen=...)

    `heads` are the linear layers that write the latent vector (n_z outputs each, or a multiple of n_z when one layer
    writes means and log-variances to be split with `chunk`), `readers` those that read it (n_z inputs each). They are
    shrunk in place, and `optimizer` keeps its state for what is kept. `rule` decides when (default: the paper's,
    which stops on all four metrics above); `select` which neurons go: ``random`` (the paper), ``kl`` (needs `kl` at
    every step) or ``last``. `RobustRule` needs `recon_loss` and `kl` alone, no labels, and goes by ``kl``; it may undo
    a removal, and needs the `optimizer` for that. With `stop=False` compression goes on down to the rule's smallest
    size, and `stop_epoch` still tells where the rule would have stopped. With `freeze=True` heads and readers are not
    trained from the first removal on (the authors' code), and the optimiser no longer holds them. Give the number of
    `epochs` if you know it: at the last one nothing is removed, since no training would follow.

    Raises `TypeError` or `ValueError` when the layers do not fit together, `ArgumentError` for an unknown `select`.
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
        self.seed = seed
        self.stop, self.freeze, self.epochs = stop, freeze, epochs
        self.epoch = 0
        self.neurons = list(range(latent_size(self.heads, self.readers)))
        self.stop_epoch: int | None = None
        self.stop_latent_dim: int | None = None
        self._state = self.rule.init()
        self._before: _Before | None = None

    @property
    def latent_dim(self) -> int:
        """The present latent size, n_z."""
        return len(self.neurons)

    @property
    def found(self) -> bool:
        """Whether the rule has stopped; with `stop=False`, whether it would have."""
        return self.stop_epoch is not None

    def step(self, *, kl: Sequence[float] | torch.Tensor | None = None, **metrics: float) -> Step:
        """Take in the metrics at the end of an epoch; shrink the layers if the rule says so.

        `kl` holds the KL divergence of each dimension (length n_z, nats), for ``select="kl"``.
        Raises `KeyError` when the rule needs a metric that is not given.
        """
        self.epoch += 1
        if self.found and self.stop:
            return Step(self.latent_dim)
        known = kl.tolist() if isinstance(kl, torch.Tensor) else None if kl is None else [float(value) for value in kl]
        self._state, decision = self.rule.adapt(self._state, self.epoch, self.latent_dim, metrics, known)
        if decision is None:
            return Step(self.latent_dim)
        if (decision.trial or decision.undo) and not self.rule.can_undo:
            raise ValueError(f"{type(self.rule).__name__} must declare `can_undo = True` to remove on trial")
        if decision.undo and self._before is not None:
            known = self._undo(self._before)
        self._before = None
        return self._carry_out(decision, known)

    def _carry_out(self, decision: Decision, kl: list[float] | None) -> Step:
        stops = decision.stop and not self.found
        remove = decision.go_on if decision.stop and not self.stop else decision.remove
        # At the last epoch no training would follow; what goes with a stop needs none.
        last = self.epoch == self.epochs and not (decision.stop and self.stop)
        step = self._remove(0 if last else remove, decision, kl)
        if stops:
            self.stop_epoch, self.stop_latent_dim = self.epoch, self.latent_dim if self.stop else decision.latent_dim
        return step

    def _remove(self, n: int, decision: Decision, kl: list[float] | None) -> Step:
        if n == 0:
            return Step(self.latent_dim, decision)
        positions = self._selection(latent_dim=self.latent_dim, n=n, seed=self.seed, epoch=self.epoch, kl=kl)
        if decision.trial:
            snapshot = Snapshot.take([*self.heads, *self.readers], self.optimizer)
            self._before = _Before(snapshot, list(self.neurons), kl or [])
        self._shrink(positions)
        gone = tuple(self.neurons[position] for position in positions)
        self.neurons = [neuron for neuron in self.neurons if neuron not in gone]
        return Step(self.latent_dim, decision, tuple(positions), gone)

    def _undo(self, before: _Before) -> list[float]:
        """Take back the removal on trial; return the KL divergences from before it."""
        before.snapshot.bring_back([*self.heads, *self.readers], self.optimizer)
        self.neurons = list(before.neurons)
        return before.kl

    def _shrink(self, positions: list[int]) -> None:
        remove_neurons(self.heads, self.readers, positions, self.optimizer)
        if self.freeze and positions:
            freeze([*self.heads, *self.readers], self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return the state: plain numbers and lists, and tensors to undo to while a removal is on trial."""
        return {
            "epoch": self.epoch,
            "neurons": list(self.neurons),
            "stop_epoch": self.stop_epoch,
            "stop_latent_dim": self.stop_latent_dim,
            "rule": asdict(self._state),
            "before": self._before and (self._before.snapshot.to_state(), self._before.neurons, self._before.kl),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Take up a saved state, and shrink the layers to its size.

        Call it on a freshly made, full-sized model; then load the state of the model and of the optimiser, whose
        shapes fit from here on.
        """
        gone = [position for position, neuron in enumerate(self.neurons) if neuron not in set(state["neurons"])]
        self._shrink(gone)
        self.epoch, self.neurons = state["epoch"], list(state["neurons"])
        self.stop_epoch, self.stop_latent_dim = state["stop_epoch"], state["stop_latent_dim"]
        self._state = self.rule.restore(state["rule"])
        before = state["before"]
        self._before = before and _Before(Snapshot.from_state(before[0]), list(before[1]), list(before[2]))


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
    if rule.can_undo and freeze:
        raise ArgumentError("freeze", f"must be False with {name}: a removal of frozen layers cannot be undone")
