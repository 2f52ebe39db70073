"""All metrics of an epoch, on validation data. Their random streams are separate from those of training."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Samples, to_float
from aldvae.metrics.clustering import agreement, find_clusters, silhouette
from aldvae.metrics.features import Features
from aldvae.metrics.frechet import Statistics, cached_statistics, frechet_distance, statistics
from aldvae.metrics.latent import active_units, count_dimension_usage
from aldvae.models.likelihood import OptimalGaussian
from aldvae.models.vae import VAE, kl_divergence
from aldvae.utils.devices import float64_device, to_float64
from aldvae.utils.errors import ConfigError, DivergedError
from aldvae.utils.rounding import round_for_csv
from aldvae.utils.seeding import generator, stream_seed

# Validation samples pass through the model in chunks within both limits: 1,000 images of MNIST, 20 videos of SPRITES.
_MAX_CHUNK_SAMPLES, _MAX_CHUNK_VALUES = 1000, 2_000_000


def require_finite(epoch: int, **values: float) -> None:
    """Raise `DivergedError`, naming the `epoch` and the value, if one of the `values` is NaN or infinite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"epoch {epoch}: {name} is {value}; earlier rows are kept; try a smaller --lr")


@dataclass(frozen=True)
class Evaluation:
    """The metrics of an epoch by their CSV names, and the KL divergence of each dimension, (n_z,), in nats."""

    metrics: dict[str, float]
    kl: list[float]

    def rounded(self) -> Evaluation:
        """Return the evaluation rounded as in CSV files, so that rules decide on the numbers that a reader sees."""
        metrics = {name: v if isinstance(v, int) else round_for_csv(v) for name, v in self.metrics.items()}
        return Evaluation(metrics, [round_for_csv(v) for v in self.kl])


@dataclass(frozen=True)
class ValidationOutput:
    """The output of a model on the validation samples.

    `recon_loss` and `kl` (n_z,) are means over the N samples, in nats. `mu`, `log_var` and `z` are (N, n_z).
    `reconstructions` (fid_samples, *shape) are those of the first samples.
    """

    recon_loss: float
    kl: Tensor
    mu: Tensor
    log_var: Tensor
    z: Tensor
    reconstructions: Tensor


class Evaluator:
    """Evaluates a VAE on the same validation samples each epoch (the paper, Algorithm 1, lines 7 to 11)."""

    def __init__(
        self, config: RunConfig, validation: Samples, features: Features | None, cache_dir: Path, device: torch.device
    ) -> None:
        """Compute or load the reference statistics: those of the first `fid_samples` validation samples.

        They are cached under `cache_dir`. Without `features`, no Fréchet distance is computed. Raises `ConfigError` as
        `check_samples` does.
        """
        check_samples(config, validation)
        self.config, self.features, self.device = config, features, device
        self.samples = validation.on(device)
        self.labels = None if validation.labels is None else validation.labels.numpy()
        self._n_values = math.prod(validation.shape)
        self._chunk = max(1, min(_MAX_CHUNK_SAMPLES, _MAX_CHUNK_VALUES // self._n_values))
        self.reference = None if features is None else self._reference(validation, features, cache_dir)

    def _reference(self, validation: Samples, features: Features, cache_dir: Path) -> Statistics:
        # The fingerprint of the samples identifies dataset, split and limit; the features' identity, their weights.
        first = validation.take(torch.arange(self.config.metrics.fid_samples))
        key = f"{features.identity}-{replace(first, labels=None).fingerprint}"
        cached = cached_statistics(
            cache_dir, key, lambda: statistics(features(to_float(self.samples[: self.config.metrics.fid_samples])))
        )
        return cached.to(float64_device(self.device))

    def evaluate(self, model: VAE, epoch: int) -> Evaluation:
        """Return the metrics of `model` after `epoch`; the mode of the model is restored.

        Raises `DivergedError` if the reconstruction loss or the KL divergence is not finite.
        """
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            output = self._validation_output(model, epoch)
            require_finite(epoch, recon_loss=output.recon_loss, kl=float(output.kl.sum()))
            metrics = {
                "recon_loss": output.recon_loss,
                "kl": float(output.kl.sum()),
                **self._clustering(output, epoch),
                **self._frechet_distances(model, output.reconstructions, epoch),
                "active_units": active_units(output.mu),
                **count_dimension_usage(output.log_var),
            }
        model.train(was_training)
        return Evaluation(metrics, output.kl.tolist())

    def _validation_output(self, model: VAE, epoch: int) -> ValidationOutput:
        random = generator(self.config.training.seed, "validation noise", epoch, self.device)
        noise = torch.randn(len(self.samples), model.latent_dim, generator=random, device=self.device)
        parts: list[tuple[Tensor, ...]] = []
        reconstructed: list[Tensor] = []
        for chunk, chunk_noise in zip(self.samples.split(self._chunk), noise.split(self._chunk), strict=True):
            x = to_float(chunk)
            out = model(x, chunk_noise)
            loss = model.likelihood(out.decoded, x)
            parts.append((loss, kl_divergence(out.mu, out.log_var), out.mu, out.log_var, out.z))
            if sum(map(len, reconstructed)) < self.config.metrics.fid_samples:
                reconstructed.append(model.likelihood.mean(out.decoded))
        loss, kl, mu, log_var, z = (torch.cat(part) for part in zip(*parts, strict=True))
        reconstructions = torch.cat(reconstructed)[: self.config.metrics.fid_samples]
        recon_loss = to_float64(loss).mean()
        if isinstance(model.likelihood, OptimalGaussian):
            recon_loss = model.likelihood.refit(recon_loss, self._n_values)
        return ValidationOutput(float(recon_loss), to_float64(kl).mean(0), mu, log_var, z, reconstructions)

    def _clustering(self, output: ValidationOutput, epoch: int) -> dict[str, float]:
        config = self.config
        if config.data.clusters is None:
            return {}
        random = np.random.default_rng(stream_seed(config.training.seed, "silhouette images", epoch))
        subset = random.choice(len(output.z), config.metrics.silhouette_samples, replace=False)
        latents = output.z if config.metrics.silhouette_on == "samples" else output.mu
        z = latents[torch.from_numpy(subset).to(self.device)].cpu().numpy()
        labels = None if self.labels is None else self.labels[subset]
        clusters = find_clusters(z, config.data.clusters, stream_seed(config.training.seed, "k-means", epoch) % 2**32)
        groups = clusters if config.metrics.silhouette_groups == "clusters" or labels is None else labels
        label_agreement = {} if labels is None else agreement(clusters, labels)
        return {"silhouette": silhouette(z, groups), **label_agreement}

    def _frechet_distances(self, model: VAE, reconstructions: Tensor, epoch: int) -> dict[str, float]:
        if self.reference is None or self.features is None:
            return {}
        random = generator(self.config.training.seed, "prior", epoch, self.device)
        prior = torch.randn(self.config.metrics.fid_samples, model.latent_dim, generator=random, device=self.device)
        generated = torch.cat([model.generate(z) for z in prior.split(self._chunk)])
        pairs = (("fid_recon", reconstructions), ("fid_gen", generated))
        return {name: frechet_distance(self.reference, statistics(self.features(x))) for name, x in pairs}


def check_samples(config: RunConfig, validation: Samples) -> None:
    """Raise `ConfigError` if a metric needs more validation samples than there are, or labels that are missing."""
    available = len(validation)
    needed = {
        "fid_samples": config.metrics.fid_features != "none",
        "silhouette_samples": config.data.clusters is not None,
    }
    for option, is_needed in needed.items():
        requested = getattr(config.metrics, option)
        if is_needed and requested > available:
            raise ConfigError(
                option, f"{requested} is more than the {available} validation samples; use {available} or less"
            )
    if config.metrics.silhouette_groups == "classes" and validation.labels is None:
        raise ConfigError("silhouette_groups", "classes needs labels, but the data have none; use clusters")
