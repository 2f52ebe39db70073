"""pythae: a callback that finds the latent size while a trainer of pythae trains."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import torch
from torch import nn
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_pre_hook
from torch.utils.data import DataLoader

from aldvae.compression.compressor import Compressor
from aldvae.compression.rules.consolidate import ConsolidatingRule
from aldvae.integrations.names import HeadName, NamedSlots, ReaderName, find_value, missing_package
from aldvae.utils.errors import ArgumentError

try:
    from pythae.trainers.training_callbacks import TrainingCallback
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(missing_package("pythae", "pythae")) from error

_SIZES = ("model_config.latent_dim", "latent_dim", "encoder.latent_dim", "decoder.latent_dim")
_MAX_SAMPLES = 10_000
_logger = logging.getLogger(__name__)


class LatentSize(TrainingCallback):
    """Shrinks the latent space of a model of pythae while it trains, and finds its size.

    ::

        size = LatentSize()
        TrainingPipeline(model=model, training_config=config)(train, validation, callbacks=[size])
        print(size.latent_dim)

    After each epoch it passes the evaluation data through the encoder, of which the rule sees the posterior. The
    trainer saves the best model as the final one; once the size is final, it forgets those of other sizes
    (`training_config.keep_best_on_train` becomes True), so that the final model has it.

    Args:
        heads: names of the layers that write posterior means and log-variances; those of pythae's own encoders by
            default. See `aldvae.integrations.lightning.LatentSize` for the forms of a name.
        readers: names of the layers that read the latent vector; that of pythae's own decoders by default.
        sizes: names of more attributes that hold the latent size, beside `latent_dim` of the model, its configuration,
            encoder and decoder.
        rule: decides; the default is `ConsolidatingRule` with the `beta` of the model's configuration, or 1.
        seed: for what the compressor draws at random.

    Attributes:
        compressor: the `aldvae.Compressor` at work, None before training.

    Raises `ArgumentError` (a `ValueError`) when training begins for an argument that does not fit, and for a
    distributed trainer.
    """

    def __init__(
        self,
        *,
        heads: Sequence[HeadName] = ("encoder.embedding", "encoder.log_var"),
        readers: Sequence[ReaderName] = ("decoder.layers.0.0",),
        sizes: Sequence[str] = (),
        rule: ConsolidatingRule | None = None,
        seed: int = 0,
    ) -> None:
        """See the class."""
        self.heads, self.readers, self.sizes = list(heads), list(readers), list(sizes)
        self.rule, self.seed = rule, seed
        self.compressor: Compressor | None = None
        self._optimizers: list[Optimizer] = []
        self._loader: DataLoader[Any] | None = None

    @property
    def latent_dim(self) -> int:
        """The current latent size; raises `ValueError` before training."""
        if self.compressor is None:
            raise ValueError("the latent size is known once training has begun")
        return self.compressor.latent_dim

    def on_train_begin(self, training_config: Any, model: nn.Module, **_: object) -> None:  # noqa: ARG002
        """Find the layers, and the optimisers as soon as they take a step: pythae does not tell its callbacks."""
        if isinstance(model, nn.parallel.DistributedDataParallel):
            raise ArgumentError("world_size", "must be 1 with LatentSize, which gives the layers new parameters")
        self.compressor, self._optimizers = None, []
        sizes = [name for name in _SIZES if find_value(model, name, None) is not None]
        self._slots = NamedSlots(model, self.heads, self.readers, sizes=[*sizes, *self.sizes])
        parameters = {id(parameter) for parameter in self._slots.space.parameters}

        def note(optimizer: Optimizer, *_: object) -> None:
            held = {id(parameter) for group in optimizer.param_groups for parameter in group["params"]}
            if held & parameters and not any(known is optimizer for known in self._optimizers):
                self._optimizers.append(optimizer)

        self._hook = register_optimizer_step_pre_hook(note)

    def on_epoch_begin(
        self, training_config: Any, train_loader: DataLoader[Any], eval_loader: DataLoader[Any] | None, **_: object
    ) -> None:
        """Note the data on which the posterior is judged: those of evaluation, or else of training."""
        loader = train_loader if eval_loader is None else eval_loader
        size = training_config.per_device_eval_batch_size
        # A generator of its own leaves the random stream of training as it is.
        self._loader = DataLoader(loader.dataset, size, collate_fn=loader.collate_fn, generator=torch.Generator())

    def on_epoch_end(self, training_config: Any, model: nn.Module, **_: object) -> None:
        """Let the rule see the posterior, and decide."""
        if self.compressor is None:
            self.compressor = self._start(training_config, model)
        if self.compressor.needs_posterior:
            with self.compressor.watch():
                self._encode(model)
        before, found = self.latent_dim, self.compressor.found
        step = self.compressor.step()
        if step.decision is not None:
            change = f"{before} -> {step.latent_dim}" if step.latent_dim != before else f"{before}"
            _logger.info("LatentSize: epoch %d: size %s; %s", self.compressor.epoch, change, step.decision.reason)
        if self.compressor.found and not found:
            training_config.keep_best_on_train = True

    def on_train_end(self, training_config: Any, **_: object) -> None:  # noqa: ARG002
        """Listen no longer."""
        self._hook.remove()

    def _start(self, training_config: Any, model: nn.Module) -> Compressor:
        self._hook.remove()
        beta = float(find_value(model, "model_config.beta", 1.0))
        return Compressor(
            heads=self._slots.heads,
            readers=self._slots.readers,
            latent_dim=self._slots.space.size,
            optimizer=self._optimizers,
            on_resize=self._slots.write_size,
            rule=self.rule if self.rule is not None else ConsolidatingRule(beta=beta),
            epochs=training_config.num_epochs,
            seed=self.seed,
        )

    @torch.no_grad()
    def _encode(self, model: nn.Module) -> None:
        """Pass the samples through the encoder alone: a model may also encode others, as VAMP does for its prior."""
        assert self._loader is not None
        encoder, device = model.get_submodule("encoder"), next(model.parameters()).device
        was_training, seen = encoder.training, 0
        encoder.eval()
        for batch in self._loader:
            encoder(batch["data"].to(device))
            seen += len(batch["data"])
            if seen >= _MAX_SAMPLES:
                break
        encoder.train(was_training)
