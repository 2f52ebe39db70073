"""Adaptive compression as one object in the user's own training loop."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import nn

from aldvae.compression.pruning import freeze, latent_size, linear_layers, remove_neurons
from aldvae.compression.rules import Decision, Observation, PaperRule, Rule, RuleState
from aldvae.compression.selection import selection


@dataclass(frozen=True)
class Step:
    """What one call of `Compressor.step` did: the rule's decision and the positions removed because of it.

    `latent_dim` is the size after it. `neurons` names the removed ones by their position in the first, full model.
    """

    latent_dim: int
    decision: Decision | None = None
    removed: tuple[int, ...] = ()
    neurons: tuple[int, ...] = ()


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
    every step) or ``last``. With `stop=False` compression goes on down to the rule's smallest size, and `stop_epoch`
    still tells where the rule would have stopped. With `freeze=True` heads and readers are not trained from the first
    removal on (the authors' code), and the optimiser no longer holds them. Give the number of `epochs` if you know it:
    at the last one nothing is removed, since no training would follow.

    Raises `TypeError` or `ValueError` when the layers do not fit together, `ConfigError` for an unknown `select`.
    """

    def __init__(
        self,
        *,
        heads: Sequence[nn.Module],
        readers: Sequence[nn.Module],
        optimizer: torch.optim.Optimizer | None,
        rule: Rule | None = None,
        select: str = "random",
        seed: int = 0,
        stop: bool = True,
        freeze: bool = False,
        epochs: int | None = None,
    ) -> None:
        """See the class."""
        self.heads, self.readers, self.optimizer = linear_layers(heads), linear_layers(readers), optimizer
        self.rule: Rule = rule if rule is not None else PaperRule()
        self.select, self._selection = select, selection(select)
        self.seed = seed
        self.stop, self.freeze, self.epochs = stop, freeze, epochs
        self.epoch = 0
        self.neurons = list(range(latent_size(self.heads, self.readers)))
        self.stop_epoch: int | None = None
        self.stop_latent_dim: int | None = None
        self._state = self.rule.init()

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
        self._state, decision = self.rule.adapt(self._state, self.epoch, self.latent_dim, metrics)
        if decision is None:
            return Step(self.latent_dim)
        if decision.stop and not self.found:
            self.stop_epoch, self.stop_latent_dim = self.epoch, self.latent_dim
        if decision.remove == 0 or (decision.stop and self.stop) or self.epoch == self.epochs:
            return Step(self.latent_dim, decision)
        return self._remove(decision, None if kl is None else [float(value) for value in kl])

    def _remove(self, decision: Decision, kl: list[float] | None) -> Step:
        positions = self._selection(self.latent_dim, decision.remove, self.seed, self.epoch, kl)
        self._shrink(positions)
        gone = tuple(self.neurons[position] for position in positions)
        self.neurons = [neuron for neuron in self.neurons if neuron not in gone]
        return Step(self.latent_dim, decision, tuple(positions), gone)

    def _shrink(self, positions: list[int]) -> None:
        remove_neurons(self.heads, self.readers, positions, self.optimizer)
        if self.freeze and positions:
            freeze([*self.heads, *self.readers], self.optimizer)

    def state_dict(self) -> dict[str, Any]:
        """Return the state as plain numbers, strings and lists."""
        return {
            "epoch": self.epoch,
            "neurons": list(self.neurons),
            "stop_epoch": self.stop_epoch,
            "stop_latent_dim": self.stop_latent_dim,
            "slow": self._state.slow,
            "history": [asdict(seen) for seen in self._state.history],
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
        self._state = RuleState(tuple(Observation(**seen) for seen in state["history"]), state["slow"])
