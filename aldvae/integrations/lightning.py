"""Lightning: a callback that finds the latent size while the `Trainer` trains."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from aldvae.compression.compressor import Compressor, Step
from aldvae.compression.rules.base import AnyRule
from aldvae.compression.rules.consolidate import ConsolidatingRule
from aldvae.compression.surgery import add_neurons, latent_size, linear_layers, remove_neurons
from aldvae.integrations.names import SizeAttributes, find_modules, find_value, missing_package
from aldvae.integrations.posterior import Posterior, PosteriorRecorder
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

# Names, not classes: `lightning.pytorch` and `pytorch_lightning` have classes of their own.
_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")
_AVERAGING = ("WeightAveraging", "StochasticWeightAveraging")


class LatentSize(Callback):
    """Shrinks the latent space of a VAE while Lightning trains it, and finds its size.

    ::

        size = LatentSize(heads=["fc_mu", "fc_var"], readers=["decoder_input"], sizes=["latent_dim"])
        Trainer(max_epochs=60, callbacks=[size]).fit(vae, train_loader, validation_loader)
        print(size.latent_dim)

    After each validation it takes the posterior from the heads by hooks. Before the next batch of training the rule
    decides, and may rewrite the layers in place; a checkpoint of any moment holds the model that was measured, and
    resumes to the same decisions. It logs ``latent_dim`` and, once the rule tells it, ``n_informative``.

    Args:
        heads: names of the layers that write posterior means and log-variances (`fc_mu`, or dotted: `encoder.fc_mu`).
        readers: names of the layers that read the latent vector.
        sizes: names of attributes and hyper-parameters of the module that hold the latent size, and follow it. With the
            hyper-parameter among them, `load_from_checkpoint` builds the module in its new size.
        recon_loss: the name under which validation logs the reconstruction loss, in nats per sample: summed, not
            averaged, over the values of a sample. `RobustRule` needs it; the default rule does not.
        beta: the present weight of the KL divergence, if the module warms it up: the name of a logged metric or of an
            attribute of the module.
        rule: decides; the default is `ConsolidatingRule()`, for a loss in which the full weight is 1.
        epochs: the budget that the rule divides up; `max_epochs` by default. `EarlyStopping` acts only after it.
        max_samples: the posterior of at most so many validation samples (of the first dataloader) is used.
        seed: for what the compressor draws at random.

    Attributes:
        compressor: the `aldvae.Compressor` at work, None before training.

    An invalid argument raises `ArgumentError` (a `ValueError`) when training is set up, and so do more than one device
    under another strategy than DDP, weight averaging, and a trainer without validation or `max_epochs`.
    """

    def __init__(
        self,
        *,
        heads: Sequence[str],
        readers: Sequence[str],
        sizes: Sequence[str] = (),
        recon_loss: str | None = None,
        beta: str | None = None,
        rule: AnyRule | None = None,
        epochs: int | None = None,
        max_samples: int = 10_000,
        seed: int = 0,
    ) -> None:
        """See the class."""
        self.heads, self.readers, self.sizes = list(heads), list(readers), list(sizes)
        self.recon_loss, self.beta, self.epochs = recon_loss, beta, epochs
        self.rule: AnyRule = rule if rule is not None else ConsolidatingRule()
        self.max_samples, self.seed = max_samples, seed
        self.compressor: Compressor | None = None
        # What the last validation showed, until the rule has taken it in.
        self._measured: dict[str, Any] | None = None
        self._saved: dict[str, Any] = {}

    @property
    def latent_dim(self) -> int:
        """The current latent size; raises `ValueError` before `setup`."""
        if not hasattr(self, "_layers"):
            raise ValueError("the latent size is known once the trainer has been set up: call `fit` first")
        return latent_size(*self._layers)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Find the layers, and prepare them for a checkpoint of another size."""
        heads = find_modules("heads", pl_module, self.heads)
        readers = find_modules("readers", pl_module, self.readers)
        self._layers = linear_layers(heads), linear_layers(readers)
        self._attributes = SizeAttributes(pl_module, self.sizes, self.latent_dim)
        self._recorder = PosteriorRecorder(heads, self.max_samples)
        # Lightning loads a checkpoint's weights before it tells the callbacks, and they must fit by then.
        self._loading = pl_module.register_load_state_dict_pre_hook(self._resize)
        if stage == "fit":
            _check_trainer(trainer)
            self._saved = {}
            self._hold_early_stopping(trainer)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:  # noqa: ARG002
        """Leave the module as it was found, but for its size."""
        self._loading.remove()

    def _resize(self, _module: nn.Module, weights: Mapping[str, Tensor], prefix: str, *_: object) -> None:
        """Give the layers the size of the `weights` that are about to be loaded."""
        heads, readers = self._layers
        name, now = f"{prefix}{self.heads[0]}.weight", self.latent_dim
        if name not in weights:
            return
        size = len(weights[name]) * now // heads[0].out_features
        if size < now:
            remove_neurons(heads, readers, range(size, now))
        elif size > now:
            add_neurons(heads, readers, size - now)
        self._attributes.write(size)

    def _budget(self, trainer: Trainer) -> int:
        """Return the number of epochs that are validated."""
        return (self.epochs or trainer.max_epochs) // trainer.check_val_every_n_epoch

    def _hold_early_stopping(self, trainer: Trainer) -> None:
        if not trainer.early_stopping_callbacks:
            return
        epochs = self._budget(trainer) * trainer.check_val_every_n_epoch
        trainer.fit_loop.min_epochs = max(trainer.fit_loop.min_epochs or 0, epochs)
        rank_zero_info(
            f"LatentSize: EarlyStopping may end training after epoch {epochs}; for less, set LatentSize(epochs=...)"
        )

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Make the compressor: the optimisers exist now, and have not loaded their state yet."""
        heads, readers = self._layers
        # A second `fit` of the same trainer goes on.
        saved = self._saved or (self.state_dict() if trainer.current_epoch > 0 else {})
        self.compressor = Compressor(
            heads=heads,
            readers=readers,
            optimizer=_optimizer_of([*heads, *readers], trainer.optimizers),
            rule=self.rule,
            epochs=self._budget(trainer),
            seed=self.seed,
        )
        self._measured = None
        if saved:
            # The layers have their size already.
            self.compressor.neurons = list(saved["compressor"]["neurons"])
            self.compressor.load_state_dict(saved["compressor"])
            self._measured = saved["measured"]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Record from now on what the heads write."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._recorder.start()

    def on_validation_batch_start(
        self,
        trainer: Trainer,  # noqa: ARG002
        pl_module: LightningModule,  # noqa: ARG002
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
        dataloader_idx: int = 0,
    ) -> None:
        """Record the first dataloader alone."""
        self._recorder.paused = dataloader_idx > 0

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Keep the posterior and the metrics for the rule."""
        posterior = self._recorder.stop()
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        if posterior is None:
            raise ArgumentError("heads", f"{self.heads} wrote nothing while Lightning validated the module")
        posterior, metrics = _agree(trainer, posterior, self._metrics(trainer, pl_module))
        self._measured = {"epoch": trainer.current_epoch, "metrics": metrics, **posterior._asdict()}

    def _metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, float]:
        logged, metrics = trainer.callback_metrics, {}
        if self.recon_loss is not None:
            if self.recon_loss not in logged:
                raise ArgumentError("recon_loss", f"{self.recon_loss} was not logged (logged: {', '.join(logged)})")
            metrics["recon_loss"] = float(logged[self.recon_loss])
        if self.beta is not None:
            value = logged[self.beta] if self.beta in logged else find_value(pl_module, self.beta)
            metrics["beta"] = float(value)
        return metrics

    def on_train_batch_start(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        batch: object,  # noqa: ARG002
        batch_idx: int,  # noqa: ARG002
    ) -> None:
        """Let the rule decide once an epoch after its last validation, when its checkpoints are written."""
        if self._measured is not None and trainer.current_epoch > self._measured["epoch"]:
            self._step(trainer, pl_module)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the rule decide after the last epoch."""
        if self._measured is not None:
            self._step(trainer, pl_module)

    def _step(self, trainer: Trainer, pl_module: LightningModule) -> None:
        assert self.compressor is not None
        assert self._measured is not None
        posterior = Posterior(self._measured["mu"], self._measured["log_var"])
        metrics, self._measured = self._measured["metrics"], None
        before, weight = self.latent_dim, self._layers[0][0].weight
        step = self.compressor.step(kl=posterior.kl, mu=posterior.mu, log_var=posterior.log_var, **metrics)
        if self._layers[0][0].weight is not weight:
            self._changed(trainer, pl_module, step, before)

    def _changed(self, trainer: Trainer, pl_module: LightningModule, step: Step, before: int) -> None:
        """Let attributes, hyper-parameters and DDP follow the new parameters."""
        self._attributes.write(step.latent_dim)
        if trainer.world_size > 1:
            trainer.strategy.model = pl_module
            trainer.strategy.configure_ddp()
        reason = step.decision.reason if step.decision is not None else ""
        rank_zero_info(f"LatentSize: epoch {trainer.current_epoch}, size {before} -> {step.latent_dim}: {reason}")

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:  # noqa: ARG002
        """Log the size, and the number of dimensions that carry information once the rule has told it."""
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


def _check_trainer(trainer: Trainer) -> None:
    """Raise `ArgumentError` for a trainer with which the size cannot be found."""
    strategy = type(trainer.strategy).__name__
    if strategy not in _STRATEGIES:
        raise ArgumentError("strategy", f"must be a single device or 'ddp' with LatentSize, not {strategy}")
    names = {kind.__name__ for callback in trainer.callbacks for kind in type(callback).__mro__}
    for name in names.intersection(_AVERAGING):
        raise ArgumentError("callbacks", f"LatentSize and {name} do not go together: the average has one fixed size")
    if trainer.max_epochs is None or trainer.max_epochs < 1:
        raise ArgumentError("max_epochs", "must be given to the Trainer: LatentSize divides them up")
    if trainer.check_val_every_n_epoch is None:
        raise ArgumentError("check_val_every_n_epoch", "must be a number: LatentSize judges whole epochs")
    if not trainer.limit_val_batches:
        raise ArgumentError("limit_val_batches", "must not be 0: LatentSize judges the posterior of validation samples")


def _optimizer_of(layers: Sequence[nn.Module], optimizers: Sequence[torch.optim.Optimizer]) -> torch.optim.Optimizer:
    """Return the optimiser that trains `layers`; raises `ArgumentError` unless there is exactly one."""
    wanted = {id(parameter) for layer in layers for parameter in layer.parameters()}
    held = [{id(p) for group in optimizer.param_groups for p in group["params"]} for optimizer in optimizers]
    holders = [optimizer for optimizer, ids in zip(optimizers, held, strict=True) if ids & wanted]
    if len(holders) != 1:
        raise ArgumentError("heads", f"and readers must be trained by one optimiser; {len(holders)} hold some of them")
    return holders[0]


def _agree(trainer: Trainer, posterior: Posterior, metrics: dict[str, float]) -> tuple[Posterior, dict[str, float]]:
    """Return the samples of all processes, and the metrics of the first, so that all decide alike."""
    if trainer.world_size == 1:
        return posterior, metrics
    strategy = trainer.strategy
    n = int(strategy.reduce(torch.tensor(len(posterior.mu), device=strategy.root_device), reduce_op="min"))
    parts = [strategy.all_gather(part[:n].to(strategy.root_device)).flatten(0, 1).cpu() for part in posterior]
    gathered: tuple[Posterior, dict[str, float]] = strategy.broadcast((Posterior(*parts), metrics))
    return gathered
