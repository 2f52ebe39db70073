"""scvi-tools: a callback that finds the latent size of `SCVI` while it trains."""

from __future__ import annotations

from collections.abc import Sequence

from aldvae.compression.rules.base import AnyRule
from aldvae.compression.rules.consolidate import ConsolidatingRule
from aldvae.integrations.names import HeadName, ReaderName, find_value, missing_package
from aldvae.utils.errors import ArgumentError

try:
    from lightning.pytorch import LightningModule, Trainer
    from lightning.pytorch.utilities import rank_zero_info
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(missing_package("scvi-tools", "scvi")) from error

from aldvae.integrations import lightning

# A warm-up that takes a larger part of the epochs than this is shortened to it.
_LONGEST_WARMUP = 0.25


class LatentSize(lightning.LatentSize):
    """Shrinks the latent space of an `SCVI` model while it trains, and finds its size.

    ::

        model = scvi.model.SCVI(adata, n_latent=64)
        size = LatentSize()
        model.train(callbacks=[size])
        print(size.latent_dim)
        model.save("folder")  # `SCVI.load` builds the smaller model

    It validates after every epoch if `train` was not told how often. The rule decides nothing while the weight of the
    KL divergence rises; scvi-tools lets it rise over 400 epochs unless told otherwise, often more than there are. So a
    warm-up longer than a quarter of the epochs is shortened to that, with a message. Batches and covariates may be
    anything that `SCVI` takes.

    Args:
        heads: names of the layers that write posterior means and log-variances, from the training plan on; those of
            `SCVI` by default, as the following. See `aldvae.integrations.lightning.LatentSize`.
        readers: names of the layers that read the latent vector.
        sizes: names of the attributes that hold the latent size.
        rule: decides; the default is `ConsolidatingRule` with the plan's `max_kl_weight`.
        recon_loss: the logged metric that `RobustRule` needs.
        epochs: the budget that the rule divides up; the trainer's `max_epochs` by default.
        seed: for what the compressor draws at random.

    Raises `ArgumentError` (a `ValueError`) as its base class does, and for a latent distribution that is not normal.
    """

    def __init__(
        self,
        *,
        heads: Sequence[HeadName] = ("module.z_encoder.mean_encoder", "module.z_encoder.var_encoder"),
        readers: Sequence[ReaderName] = (("module.decoder.px_decoder.fc_layers.Layer 0.0", 0),),
        sizes: Sequence[str] = ("module.n_latent",),
        rule: AnyRule | None = None,
        recon_loss: str = "reconstruction_loss_validation",
        epochs: int | None = None,
        seed: int = 0,
    ) -> None:
        """See the class."""
        super().__init__(
            heads=heads,
            readers=readers,
            sizes=sizes,
            rule=rule,
            recon_loss=recon_loss,
            beta="kl_weight",
            epochs=epochs,
            seed=seed,
        )
        self._has_rule = rule is not None

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Prepare trainer and training plan, then as the base class."""
        distribution = find_value(pl_module, "module.latent_distribution", "normal")
        if distribution != "normal":
            raise ArgumentError("latent_distribution", f"must be 'normal' with LatentSize, not {distribution!r}")
        if stage == "fit":
            if find_value(trainer, "datamodule.n_val", 1) == 0:
                raise ArgumentError("train_size", "must be below 1: LatentSize judges cells held out for validation")
            if trainer.check_val_every_n_epoch > trainer.max_epochs:
                trainer.check_val_every_n_epoch = 1
            if not self._has_rule:
                self.rule = ConsolidatingRule(beta=pl_module.max_kl_weight)
            self._shorten_warmup(trainer, pl_module)
        super().setup(trainer, pl_module, stage)

    def _shorten_warmup(self, trainer: Trainer, pl_module: LightningModule) -> None:
        longest = max(1, int((self.epochs or trainer.max_epochs) * _LONGEST_WARMUP))
        if pl_module.n_epochs_kl_warmup and pl_module.n_epochs_kl_warmup > longest:
            rank_zero_info(f"LatentSize: n_epochs_kl_warmup is {longest} instead of {pl_module.n_epochs_kl_warmup}")
            pl_module.n_epochs_kl_warmup = longest

    def _resized(self, trainer: Trainer, pl_module: LightningModule, size: int) -> None:
        super()._resized(trainer, pl_module, size)
        # `SCVI.load` builds the model anew from these.
        for arguments in trainer._model.init_params_.values():
            if "n_latent" in arguments:
                arguments["n_latent"] = size
