"""What the callback for Lightning asks of a trainer, and what its processes tell each other."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from aldvae.compression.watch import Posterior
from aldvae.utils.errors import ArgumentError

if TYPE_CHECKING:
    from lightning.pytorch import Trainer

# Names, not classes: `lightning.pytorch` and `pytorch_lightning` have classes of their own.
_STRATEGIES = ("SingleDeviceStrategy", "DDPStrategy")
_AVERAGING = ("WeightAveraging", "StochasticWeightAveraging")


def is_training(trainer: Trainer) -> bool:
    """Return whether `fit` is at work, its sanity check apart."""
    return trainer.state.fn == "fit" and not trainer.sanity_checking


def validations(trainer: Trainer, epochs: int | None) -> int:
    """Return in how many of `epochs`, by default of all epochs of the trainer, it validates."""
    return int((epochs or trainer.max_epochs) // trainer.check_val_every_n_epoch)


def hold_early_stopping(trainer: Trainer, epochs: int | None) -> int | None:
    """Let `EarlyStopping` act only after the budget `epochs`; return the last epoch of that, None if there is none."""
    if not trainer.early_stopping_callbacks:
        return None
    last: int = validations(trainer, epochs) * trainer.check_val_every_n_epoch
    trainer.fit_loop.min_epochs = max(trainer.fit_loop.min_epochs or 0, last)
    return last


def check_trainer(trainer: Trainer) -> None:
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
    if not trainer.enable_validation:
        problem = "must be given, with a `validation_step` and `limit_val_batches` above 0"
        raise ArgumentError("val_dataloaders", f"{problem}: LatentSize judges validation samples")


def agree(trainer: Trainer, posterior: Posterior, metrics: dict[str, float]) -> tuple[Posterior, dict[str, float]]:
    """Return the posterior of all processes' samples, and the metrics of the first, so that all decide alike."""
    if trainer.world_size == 1:
        return posterior, metrics
    strategy, device = trainer.strategy, trainer.strategy.root_device
    kl = strategy.reduce(torch.tensor(posterior.kl, device=device), reduce_op="mean").tolist()
    mu, log_var = posterior.mu, posterior.log_var
    if mu is not None and log_var is not None:
        # Processes may have validated different numbers of samples.
        n = int(strategy.reduce(torch.tensor(len(mu), device=device), reduce_op="min"))
        mu, log_var = (strategy.all_gather(part[:n].to(device)).flatten(0, 1).cpu() for part in (mu, log_var))
    agreed: tuple[Posterior, dict[str, float]] = strategy.broadcast(
        (posterior._replace(kl=kl, mu=mu, log_var=log_var), metrics)
    )
    return agreed
