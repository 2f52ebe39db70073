"""The model of one run, and how it is trained and compressed."""

from __future__ import annotations

from typing import Any, ClassVar, NotRequired, TypedDict

import torch
from torch import Tensor

from aldvae.compression.compressor import Compressor
from aldvae.compression.steps import Step
from aldvae.config.rules import arguments_as_options
from aldvae.config.run_config import RunConfig
from aldvae.config.sections import CompressionConfig
from aldvae.data.dataset import Dataset, to_float
from aldvae.data.mapped import batches
from aldvae.metrics.evaluation import Evaluation
from aldvae.models.build import build_vae
from aldvae.models.likelihood import OptimalGaussian
from aldvae.models.vae import VAE
from aldvae.training.optimizer import make_optimizer
from aldvae.utils.seeding import generator, stream_seed

# The samples whose posterior a rule that consolidates judges, and how many pass through the encoder at once.
_POSTERIOR_SAMPLES, _POSTERIOR_CHUNK = 2000, 100


class TrainerState(TypedDict):
    """State dictionaries of model, optimiser and compressor (None for a model of fixed size), and the precision.

    Checkpoints of version 0.2.0 lack the precision.
    """

    model: dict[str, Any]
    optimizer: dict[str, Any]
    compressor: dict[str, Any] | None
    precision: NotRequired[str]


def autocast(precision: str, device: torch.device) -> torch.autocast:
    """Return a context that computes matrix products and convolutions in `precision`, everything else in float32."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


class Trainer:
    """The model, its optimiser and, in an adaptive run, its compressor.

    `phase` begins the purposes of the random streams. `precision` is that of matrix products and convolutions; if the
    run leaves it to the machine, it must be set before training.
    """

    phase: ClassVar[str] = ""

    def __init__(self, config: RunConfig, data: Dataset, device: torch.device) -> None:
        """Make a fresh model; its initial weights depend on the seed, not on the device."""
        self.config, self.device, self.precision = config, device, config.training.precision
        self.samples = data.train.on(device)
        self.model = self._make_model(data).to(device)
        self.optimizer = make_optimizer(list[Tensor](self.model.parameters()), config.training.lr, device)
        self.compressor = self._make_compressor(config.compression) if config.compression is not None else None
        self._validation = data.validation

    @property
    def posterior_samples(self) -> Tensor:
        """The samples that tell the principal directions of the latent space.

        They are validation samples and, where these are few, training samples, since few samples tell few directions.
        """
        validation = self._validation.on(self.device)[:_POSTERIOR_SAMPLES]
        return torch.cat([validation, self.samples[: _POSTERIOR_SAMPLES - len(validation)]])

    def _make_model(self, data: Dataset) -> VAE:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(stream_seed(self.config.training.seed, "weights"))
            with arguments_as_options():
                model = build_vae(data.shape, self.config.model.init_dim, **self.config.network_settings)
        model.columns = data.train.columns
        model.unit_pixels = not data.train.is_vectors and data.train.x.is_floating_point()
        if data.standardisation is not None:
            model.input_mean, model.input_scale = data.standardisation
        if self.config.model.standardise:
            model.standardise_pixels(*data.pixel_statistics)
        if isinstance(model.likelihood, OptimalGaussian):
            # Where an epoch has 7 steps, an average over 100 would describe the model of 7 epochs ago.
            steps = -(-len(self.samples) // self.config.training.batch_size)
            model.likelihood.span = min(steps, model.likelihood.span)
        return model

    def _make_compressor(self, compression: CompressionConfig) -> Compressor:
        return Compressor(
            heads=[self.model.mu, self.model.log_var],
            readers=[self.model.reader],
            optimizer=self.optimizer,
            rule=self.config.make_rule(),
            select=compression.select,
            seed=self.config.training.seed,
            stop=compression.stop,
            freeze=compression.shrunk_layers == "frozen",
            epochs=self.config.training.epochs,
        )

    @property
    def neurons(self) -> list[int]:
        """The remaining latent neurons, by their position in the initial model."""
        return self.compressor.neurons if self.compressor is not None else list(range(self.model.latent_dim))

    @property
    def has_answer(self) -> bool:
        """Whether the rule has stopped or, if it counts informative dimensions, says that their number has settled."""
        if self.compressor is None:
            return False
        answer = self.compressor.answer
        return self.compressor.found or (answer is not None and answer.settled_epoch is not None)

    def order(self, epoch: int) -> Tensor:
        """Return the order of the training samples in `epoch`, as positions (N,)."""
        if not self.config.training.shuffle:
            return torch.arange(len(self.samples))
        return torch.randperm(
            len(self.samples), generator=generator(self.config.training.seed, f"{self.phase}order", epoch)
        )

    def kl_weight(self, epoch: int, progress: float) -> float:
        """Return the weight of the KL divergence in the loss when the part `progress` (0 to 1) of `epoch` is trained.

        It rises linearly from 0 to beta over the first `warmup` of all epochs. Metrics and rules always use beta.
        """
        return self.config.model.beta * self.config.training.warmed_up(epoch - 1 + progress)

    def learning_rate(self, epoch: int, progress: float) -> float:  # noqa: ARG002 - a schedule uses them
        """Return the learning rate when the part `progress` (0 to 1) of `epoch` is trained."""
        return self.config.training.lr

    def _set_learning_rate(self, value: float) -> None:
        for group in self.optimizer.param_groups:
            group["lr"] = value

    def train_epoch(self, epoch: int) -> float:
        """Train for one epoch; return the mean loss over its samples (nats per sample).

        It is the negative ELBO with the KL divergence weighted by `kl_weight`.
        """
        self.model.train()
        random = generator(self.config.training.seed, f"{self.phase}noise", epoch, self.device)
        total = torch.zeros((), device=self.device)
        order = self.order(epoch).to(self.device).split(self.config.training.batch_size)
        for step, batch in enumerate(batches(self.samples, order)):
            weight = self.kl_weight(epoch, step / len(order))
            self._set_learning_rate(self.learning_rate(epoch, step / len(order)))
            loss = self.step(to_float(batch), random, weight)
            total += loss * len(batch)
        return float(total) / len(self.samples)

    def step(self, x: Tensor, random: torch.Generator, kl_weight: float) -> Tensor:
        """Take an optimiser step on samples x (B, *shape); return the mean loss before it, in nats per sample."""
        noise = torch.randn(len(x), self.model.latent_dim, generator=random, device=self.device)
        with autocast(self.precision, self.device):
            loss = self.model.loss(x, noise, kl_weight)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss.detach()

    def compress(self, evaluation: Evaluation | None) -> Step | None:
        """Give the epoch's metrics (None: not measured) to the rule, and remove neurons if it decides so.

        Returns None for a model of fixed size.
        """
        if self.compressor is None:
            return None
        judges = self.compressor.needs_posterior
        mu, log_var = self._posterior(self.posterior_samples) if judges else (None, None)
        kl = None if evaluation is None else evaluation.kl
        metrics = {} if evaluation is None else {name: evaluation.metrics[name] for name in self.config.rule_metrics}
        return self.compressor.step(kl=kl, mu=mu, log_var=log_var, **metrics)

    @torch.inference_mode()
    def _posterior(self, samples: Tensor) -> tuple[Tensor, Tensor]:
        """Return posterior means and log-variances of `samples` (N, *shape), each (N, n_z)."""
        was_training = self.model.training
        self.model.eval()
        parts = [self.model.encode(to_float(x)) for x in samples.split(_POSTERIOR_CHUNK)]
        self.model.train(was_training)
        mu, log_var = (torch.cat(part) for part in zip(*parts, strict=True))
        return mu, log_var

    def state_dict(self) -> TrainerState:
        """Return everything that training needs to resume."""
        return {
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "compressor": self.compressor.state_dict() if self.compressor is not None else None,
            "precision": self.precision,
        }

    def load_state_dict(self, state: TrainerState) -> None:
        """Resume from `state`; only for a fresh trainer of the same configuration."""
        if self.compressor is not None and state["compressor"] is not None:
            self.compressor.load_state_dict(state["compressor"])
        self.model.load_state_dict(state["model"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision = state.get("precision", self.precision)
