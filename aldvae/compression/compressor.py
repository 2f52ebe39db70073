"""Adaptive compression as one object in the user's own training loop."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer

from aldvae.compression.check import check_slots
from aldvae.compression.curve import Descending
from aldvae.compression.information import Directions
from aldvae.compression.layers import latent_space
from aldvae.compression.neurons import LatentNeurons
from aldvae.compression.optimizers import optimizer_list
from aldvae.compression.resizing import Resizable
from aldvae.compression.rules.base import AnyRule, Decision
from aldvae.compression.rules.slopes import PaperRule
from aldvae.compression.slots import Along, Head, Reader
from aldvae.compression.steps import Step
from aldvae.compression.support import check_rule, check_scale, consolidates
from aldvae.compression.units import SUMMED, Units
from aldvae.compression.watch import Posterior, Scale, Watch


class Compressor(Descending):
    """Shrinks the latent space of a VAE while it trains; used like a learning-rate scheduler.

    ::

        compressor = aldvae.Compressor(heads=[vae.mu, vae.log_var], readers=[vae.decoder[0]], optimizer=optimizer)
        for epoch in range(200):
            train_one_epoch(vae, optimizer)
            compressor.step(recon_loss=..., silhouette=..., fid_recon=..., fid_gen=...)

    Args:
        heads: the layers that write the latent vector, n_z outputs each, or `Head` with a layout for one that writes
            means and log-variances. Means come first. They are shrunk in place, as all that follows.
        readers: the layers that read it, n_z inputs each, or `Reader` for one with other inputs before or after z.
        optimizer: one or several, which keep their state for the weights that are kept; None if the layers are not
            trained by one. A rule that may undo a removal needs it.
        along: what has one entry for each dimension: norm layers on z, and parameters and buffers (learned priors), as
            pairs ``(module, "name")``, or triples with the dimension of the tensor if its shape leaves that open.
        latent_dim: n_z. It must be given where sizes leave it open: if a reader has other inputs too, and for a single
            head without a layout.
        sizes: attributes that hold the latent size and follow it, as pairs ``(object, "latent_dim")``.
        on_resize: called with the latent size whenever the layers have new parameters, for all else that must follow.
        model: the whole VAE. Undoing a removal then restores its buffers too (running means of batch norms). Without
            it, those of the layers and of modules in `sizes` are restored.
        units: how the losses are averaged, if they are not summed over the values of a sample and over dimensions.
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
        heads, readers: the layers themselves.
        neurons: the positions in the initial model of the neurons that are left, in ascending order; after the first
            consolidation 0 to n_z - 1: its dimensions are new ones, those with most information first.
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
        heads: Sequence[nn.Module | Head],
        readers: Sequence[nn.Module | Reader],
        optimizer: Optimizer | Sequence[Optimizer] | None,
        along: Sequence[Along] = (),
        latent_dim: int | None = None,
        sizes: Sequence[tuple[object, str]] = (),
        on_resize: Callable[[int], object] | None = None,
        model: nn.Module | None = None,
        units: Units = SUMMED,
        rule: AnyRule | None = None,
        select: str | None = None,
        seed: int = 0,
        stop: bool = True,
        freeze: bool = False,
        epochs: int | None = None,
    ) -> None:
        """See the class."""
        space = latent_space(heads, readers, along, latent_dim)
        self._model = Resizable(space, optimizer_list(optimizer), tuple(sizes), on_resize, model, freeze)
        self.heads, self.readers = ([slot.module for slot in slots] for slots in (space.heads, space.readers))
        rule = rule if rule is not None else PaperRule()
        self._rule: AnyRule = rule if epochs is None else rule.with_epochs(epochs)
        self.select = select if select is not None else self._rule.default_select
        self._neurons, self.units = LatentNeurons(self._model, self.select, seed), units
        check_rule(self.rule, self.select, self._model, stop=stop)
        self.stop, self.epochs, self.epoch = stop, epochs, 0
        self.stop_epoch: int | None = None
        self.stop_latent_dim: int | None = None
        self.answer: Decision | None = None
        self._state, self._posterior = self.rule.init(), Posterior()

    @property
    def neurons(self) -> list[int]:
        """The positions in the initial model of the neurons that are left; see the class."""
        return self._neurons.left

    @property
    def rule(self) -> AnyRule:
        """The rule, its `beta` in nats per sample at the present size."""
        return self.units.rule_in_nats(self._rule, self.latent_dim)

    @property
    def latent_dim(self) -> int:
        """The current latent size, n_z."""
        return self._model.space.size

    @property
    def found(self) -> bool:
        """Whether the rule has stopped; with `stop=False`, whether it would have."""
        return self.stop_epoch is not None

    @property
    def needs_posterior(self) -> bool:
        """Whether the next call of `step` needs `mu` and `log_var`, which may be left out otherwise."""
        stopped = self.found and self.stop
        return consolidates(self._rule) and not stopped and self.rule.is_due(self.epoch + 1)

    @contextmanager
    def watch(self, scale: Scale = "log_var") -> Iterator[None]:
        """Take the posterior of validation samples from the heads, so that the next `step` needs no `kl`, `mu`, ...

        ::

            with compressor.watch(scale="log_var"):
                recon_loss = validate(vae)
            compressor.step(recon_loss=recon_loss, beta=beta)

        `scale` says what the second head writes: ``"log_var"``, ``"log_std"``, ``"softplus"`` (of which is the standard
        deviation) or a function from the head's output to the standard deviation. Every forward pass of the heads
        within counts, whatever the mode of the model.

        Raises `ArgumentError` for heads that do not write means and scales, for a `scale` that the rule cannot rewrite,
        and, on leaving, if the heads were not called.
        """
        watch = self.new_watch(scale)
        with watch.hooks():
            yield
        self.observe(watch.posterior())

    def new_watch(self, scale: Scale = "log_var") -> Watch:
        """Return what `watch` listens with, for code that cannot use a context manager; raises as `watch` does."""
        check_scale(self._rule, scale)
        return Watch(self._model.space, scale, keep_samples=self.needs_posterior)

    def observe(self, posterior: Posterior) -> None:
        """Take in the posterior of a `Watch` for the next `step`."""
        self._posterior = posterior

    def check(self, forward: Callable[[], torch.Tensor]) -> None:
        """Rehearse a removal: one forward and backward pass and one optimiser step, then all is as before.

        `forward` computes the training loss of a batch. It runs before the removal of one dimension too, to see by
        gradients whether the readers read each dimension where the heads write it. Parameters, gradients, buffers, the
        optimisers' state and the random streams are put back bit for bit.

        Raises `ArgumentError` that names the slot which is wrong, or the module that fails and is not listed.
        """
        check_slots(self._model, forward)

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
        `recon_loss` in nats per sample: summed, not averaged, over the values of a sample, or as `units` says. Leave
        all of them out for an epoch that was not measured. A rule that consolidates needs instead the posterior's means
        `mu` and log-variances `log_var`, each (N, n_z), of some 1,000 validation samples or more, and, during a
        warm-up, the present weight of the KL divergence as `beta`. After `watch`, `kl`, `mu` and `log_var` are known.

        Raises `KeyError` if the rule needs a metric that is missing, `ArgumentError` if the selection needs `kl` and it
        is missing, and `ValueError` for NaN, for a decision that leaves fewer than 2 dimensions, and for one on trial
        by a rule without `can_undo`.
        """
        self.epoch += 1
        posterior, self._posterior = self._posterior.override(kl, mu, log_var), Posterior()
        if self.found and self.stop:
            return Step(self.latent_dim)
        posterior.check_size(self.latent_dim)
        before = self._model.space.parameters
        step = self._decide(posterior, self.units.metrics_in_nats(metrics, self.latent_dim))
        if any(new is not old for new, old in zip(self._model.space.parameters, before, strict=True)):
            self._model.notify()
        return step

    def _decide(self, posterior: Posterior, metrics: Mapping[str, float]) -> Step:
        kl, rule = posterior.kl, self.rule
        directions, beta = None, float(getattr(rule, "beta", 1.0))
        if consolidates(rule) and rule.is_due(self.epoch):
            directions = posterior.directions(beta)
        if directions is not None:
            kl, metrics = list(directions.own(beta)), {**metrics, "copies": directions.copies(beta)}
        self._state, decision = rule.adapt(self._state, self.epoch, self.latent_dim, metrics, kl)
        if decision is None:
            return Step(self.latent_dim, directions=directions)
        if (decision.trial or decision.undo) and not rule.can_undo:
            raise ValueError(f"{type(rule).__name__} must declare `can_undo = True` to remove on trial")
        if decision.n_informative is not None:
            self.answer = decision
        if directions is not None:
            return self._consolidate(decision, directions, posterior.power)
        return self._apply(decision, self._neurons.end_trial(decision, kl))

    def _consolidate(self, decision: Decision, directions: Directions, power: float) -> Step:
        if self.epoch != self.epochs:
            self._neurons.consolidate(decision, directions, power, self.epoch)
        if decision.stop:
            self.stop_epoch, self.stop_latent_dim = self.epoch, self.latent_dim
        return Step(self.latent_dim, decision, directions=directions)

    def _apply(self, decision: Decision, kl: list[float] | None) -> Step:
        stops = decision.stop and not self.found
        n = decision.remove_if_continuing if decision.stop and not self.stop else decision.remove
        # No training follows the last epoch. A removal that comes with the stop needs none.
        is_last = self.epoch == self.epochs and not (decision.stop and self.stop)
        step = self._neurons.remove(0 if is_last else n, decision, kl, self.epoch)
        if stops:
            self.stop_epoch, self.stop_latent_dim = self.epoch, self.latent_dim if self.stop else decision.latent_dim
        return step

    def state_dict(self) -> dict[str, Any]:
        """Return the state as numbers, lists and dictionaries, and, during a trial, the tensors needed to undo it."""
        return {
            "epoch": self.epoch,
            "stop_epoch": self.stop_epoch,
            "stop_latent_dim": self.stop_latent_dim,
            "answer": self.answer and asdict(self.answer),
            "rule": asdict(self._state),
            **self._neurons.state_dict(),
        }

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Load a state that `state_dict` returned, and shrink or extend the layers to its size.

        Call it on a fresh model of the initial size, or of the size of the state, before you load the states of the
        model and of the optimiser: their shapes fit only then.
        """
        self._neurons.load_state_dict(state)
        self.epoch = state["epoch"]
        self.stop_epoch, self.stop_latent_dim = state["stop_epoch"], state["stop_latent_dim"]
        # Checkpoints of version 0.1.0 have no answer.
        answer = state.get("answer")
        self.answer = None if answer is None else Decision(**answer)
        self._state = self.rule.restore(state["rule"])
