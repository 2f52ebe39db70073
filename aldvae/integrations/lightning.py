"""Lightning: a callback that finds the latent size while the `Trainer` trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from typing import Any

from torch import Tensor, nn

from aldvae.compression.compressor import Compressor
from aldvae.compression.rules.base import AnyRule
from aldvae.compression.rules.consolidate import ConsolidatingRule
from aldvae.compression.units import SUMMED, Units
from aldvae.compression.watch import Posterior, Scale, Watch
from aldvae.integrations.lightning_trainer import agree, check_trainer, hold_early_stopping, is_training, validations
from aldvae.integrations.names import HeadName, NamedSlots, ReaderName, find_value, missing_package
from aldvae.utils.errors import ArgumentError

try:
    from lightning.pytorch import Callback, LightningModule, Trainer
    from lightning.pytorch.utilities import rank_zero_info
except ModuleNotFoundError:
    try:
        from pytorch_lightning import Callback, LightningModule, Trainer
        from pytorch_lightning.utilities import rank_zero_info
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError(missing_package("Lightning", "lightning")) from error


class LatentSize(Callback):
    """Shrinks the latent space of a VAE while Lightning trains it, and finds its size.

    ::

        size = LatentSize(heads=["fc_mu", "fc_var"], readers=["decoder_input"], sizes=["latent_dim"])
        Trainer(max_epochs=60, callbacks=[size]).fit(vae, train_loader, validation_loader)
        print(size.latent_dim)

    During validation it takes the posterior from the heads. Before the next batch of training the rule decides, and may
    rewrite the layers in place. So a checkpoint holds the model that was validated, and training that resumes from it
    makes the same decisions. It logs ``latent_dim`` and, once the rule tells it, ``n_informative``.

    Args:
        heads: names of the layers that write posterior means and scales (`fc_mu`, or dotted: `encoder.fc_mu`), or one
            that writes both, as a pair of name and layout: ``("fc", "blocks")``.
        readers: names of the layers that read the latent vector; for one with other inputs too, a pair of the name and
            the position at which z begins: ``("decoder.0", 10)``.
        along: names of what has one entry for each dimension: norm layers on z, parameters and buffers.
        sizes: names of attributes and hyper-parameters of the module that hold the latent size, and follow it. With the
            hyper-parameter among them, `load_from_checkpoint` builds the module in its new size. The first one is
            asked for the size where the layers leave it open, as where readers have other inputs too.
        scale: what the second head writes; see `Compressor.watch`.
        recon_loss: the name under which validation logs the reconstruction loss, in nats per sample: summed, not
            averaged, over the values of a sample, or as `units` says. `RobustRule` needs it; the default rule does not.
        beta: the present weight of the KL divergence, if the module warms it up: the name of a logged metric or of an
            attribute of the module.
        units: how the losses are averaged, if they are.
        rule: decides; the default is `ConsolidatingRule()`, for a loss in which the full weight is 1.
        epochs: the budget that the rule divides up; `max_epochs` by default. `EarlyStopping` acts only after it.
        seed: for what the compressor draws at random.

    Attributes:
        compressor: the `aldvae.Compressor` at work, None before training.

    An invalid argument raises `ArgumentError` (a `ValueError`) when training is set up, and so do more than one device
    under another strategy than DDP, weight averaging, and a trainer without validation or `max_epochs`.
    """

    def __init__(
        self,
        *,
        heads: Sequence[HeadName],
        readers: Sequence[ReaderName],
        along: Sequence[str] = (),
        sizes: Sequence[str] = (),
        scale: Scale = "log_var",
        recon_loss: str | None = None,
        beta: str | None = None,
        units: Units = SUMMED,
        rule: AnyRule | None = None,
        epochs: int | None = None,
        seed: int = 0,
    ) -> None:
        """See the class."""
        self.heads, self.readers, self.along, self.sizes = list(heads), list(readers), list(along), list(sizes)
        self.scale, self.recon_loss, self.beta, self.units = scale, recon_loss, beta, units
        self.rule: AnyRule = rule if rule is not None else ConsolidatingRule()
        self.epochs, self.seed = epochs, seed
        self.compressor: Compressor | None = None
        self._slots: NamedSlots | None = None
        # What the last validation showed, until the rule has taken it in; the state of a checkpoint until it is used.
        self._measured: dict[str, Any] | None = None
        self._saved: dict[str, Any] = {}
        self._watch: Watch | None = None
        self._hooks = ExitStack()

    @property
    def latent_dim(self) -> int:
        """The current latent size; raises `ValueError` before the trainer has set the callback up."""
        return self.slots.space.size

    @property
    def slots(self) -> NamedSlots:
        """The layers that were found in the module; raises `ValueError` before the trainer has set the callback up."""
        if self._slots is None:
            raise ValueError("the layers are known once the trainer has been set up: call `fit` first")
        return self._slots

    def check(self, pl_module: LightningModule, forward: Callable[[], Tensor]) -> None:
        """Rehearse a removal before training; all is then as before. `forward` returns the training loss of a batch.

        ::

            size.check(vae, lambda: vae.training_step(batch, 0))

        Raises `ArgumentError` that names what is wrong; see `Compressor.check`.
        """
        slots = NamedSlots(pl_module, self.heads, self.readers, self.along, self.sizes)
        compressor = Compressor(
            heads=slots.heads,
            readers=slots.readers,
            along=slots.along,
            latent_dim=slots.space.size,
            optimizer=None,
            on_resize=slots.write_size,
        )
        compressor.check(forward)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the layers, and prepare them for a checkpoint of another size."""
        self._slots = NamedSlots(pl_module, self.heads, self.readers, self.along, self.sizes)
        # Lightning loads a checkpoint's weights before it tells the callbacks, and they must fit by then.
        self._loading = pl_module.register_load_state_dict_pre_hook(self._before_loading)
        if stage == "fit":
            check_trainer(trainer)
            self._saved = {}
            if (held := hold_early_stopping(trainer, self.epochs)) is not None:
                rank_zero_info(
                    f"LatentSize: EarlyStopping may end training after epoch {held}; for less, set "
                    "LatentSize(epochs=...)"
                )

    def _before_loading(self, _: nn.Module, weights: Mapping[str, Tensor], prefix: str, *__: object) -> None:
        self.slots.fit_to(weights, prefix)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Stop watching the module."""
        self._loading.remove()
        self._hooks.close()

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Make the compressor: the optimisers exist now, and have not loaded their state yet."""
        # A second `fit` of the same trainer goes on.
        saved = self._saved or (self.state_dict() if trainer.current_epoch > 0 else {})
        self.compressor = Compressor(
            heads=self.slots.heads,
            readers=self.slots.readers,
            along=self.slots.along,
            latent_dim=self.latent_dim,
            optimizer=trainer.optimizers,
            on_resize=lambda size: self._resized(trainer, pl_module, size),
            model=pl_module,
            units=self.units,
            rule=self.rule,
            epochs=validations(trainer, self.epochs),
            seed=self.seed,
        )
        self._measured = None
        if saved:
            self.compressor.load_state_dict(saved["compressor"])
            self._measured = saved["measured"]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Watch the heads from now on."""
        if self.compressor is not None and is_training(trainer):
            self._watch = self.compressor.new_watch(self.scale)
            self._hooks.enter_context(self._watch.hooks())

    def on_validation_batch_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,
    ) -> None:
        """Watch the first dataloader alone."""
        if dataloader_idx > 0:
            self._hooks.close()

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the posterior and the metrics for the rule."""
        self._hooks.close()
        if self._watch is None or not is_training(trainer):
            return
        posterior, self._watch = self._watch.posterior(), None
        posterior, metrics = agree(trainer, posterior, self._metrics(trainer, pl_module))
        self._measured = {"epoch": trainer.current_epoch, "metrics": metrics, "posterior": posterior._asdict()}

    def _metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        logged, metrics = trainer.callback_metrics, {}
        if self.recon_loss is not None:
            if self.recon_loss not in logged:
                raise ArgumentError("recon_loss", f"{self.recon_loss} was not logged (logged: {', '.join(logged)})")
            metrics["recon_loss"] = float(logged[self.recon_loss])
        if self.beta is not None:
            value = logged[self.beta] if self.beta in logged else find_value(pl_module, self.beta, None)
            if value is None:
                problem = f"names neither a logged metric nor an attribute of {type(pl_module).__name__}"
                raise ArgumentError("beta", f"{problem}: {self.beta}")
            metrics["beta"] = float(value)
        return metrics

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,  # noqa: ARG002
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Let the rule decide once an epoch, after its last validation and the checkpoints written then."""
        if self._measured is not None and trainer.current_epoch > self._measured["epoch"]:
            self._step()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Let the rule decide after the last epoch."""
        if self._measured is not None:
            self._step()

    def _step(self) -> None:
        assert self.compressor is not None
        assert self._measured is not None
        measured, self._measured = self._measured, None
        before = self.latent_dim
        self.compressor.observe(Posterior(**measured["posterior"]))
        step = self.compressor.step(**measured["metrics"])
        if step.decision is not None:
            change = f"{before} -> {step.latent_dim}" if step.latent_dim != before else f"{before}"
            rank_zero_info(f"LatentSize: epoch {measured['epoch'] + 1}: size {change}; {step.decision.reason}")

    def _resized(self, trainer: Trainer, pl_module: LightningModule, size: int) -> None:
        """Let attributes, hyper-parameters and DDP follow the new parameters."""
        self.slots.write_size(size)
        if trainer.world_size > 1:
            trainer.strategy.model = pl_module
            trainer.strategy.configure_ddp()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Log the size, and the number of dimensions that carry information once the rule has told it."""
        if self._measured is None and trainer.current_epoch + 1 == trainer.check_val_every_n_epoch:
            raise ArgumentError("val_dataloaders", "gave no samples: LatentSize judges those of validation")
        pl_module.log("latent_dim", float(self.latent_dim))
        answer = self.compressor.answer if self.compressor is not None else None
        if answer is not None and answer.n_informative is not None:
            pl_module.log("n_informative", float(answer.n_informative))

    def state_dict(self) -> dict[str, Any]:
        """Return the compressor's state and what the last validation showed."""
        if self.compressor is None:
            return {}
        return {"compressor": self.compressor.state_dict(), "measured": self._measured}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Keep the state of a checkpoint until there are optimisers."""
        self._saved = state_dict
