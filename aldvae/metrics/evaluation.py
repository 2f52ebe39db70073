"""All metrics of one epoch, on validation data, from random streams of their own."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from aldvae.data.dataset import Samples, inputs
from aldvae.errors import DivergedError
from aldvae.files import rounded
from aldvae.metrics.clustering import silhouette
from aldvae.metrics.features import Features
from aldvae.metrics.frechet import Statistics, frechet_distance, statistics
from aldvae.metrics.latent import active_units
from aldvae.models.vae import VAE, kl_divergence
from aldvae.streams import generator, stream_seed

# Numbers in a chunk of samples that go through the model at once: 1,000 pictures of MNIST, 20 videos of SPRITES.
_CHUNK_NUMBERS = 2_000_000


def require_finite(epoch: int, **values: float) -> None:
    """Raise `DivergedError` naming the `epoch` if one of the `values` is NaN or infinite."""
    for name, value in values.items():
        if not math.isfinite(value):
            raise DivergedError(f"epoch {epoch}: {name} is {value}; the rows before it are kept (try a smaller --lr)")


@dataclass(frozen=True)
class Evaluation:
    """The metrics of one epoch by their CSV names, and the KL divergence of each dimension (n_z,), in nats."""

    metrics: dict[str, float]
    kl: list[float]

    def rounded(self) -> Evaluation:
        """Return it as a CSV holds it, so that rules decide on the numbers a reader can see."""
        metrics = {name: v if isinstance(v, int) else rounded(v) for name, v in self.metrics.items()}
        return Evaluation(metrics, [rounded(v) for v in self.kl])


@dataclass(frozen=True)
class Passed:
    """What one pass over the validation samples leaves.

    `recon_loss` (mean over samples) and `kl` (n_z,) in nats, `mu` and `z` (N, n_z), and the reconstructions of the
    first `fid_samples` samples.
    """

    recon_loss: float
    kl: Tensor
    mu: Tensor
    z: Tensor
    reconstructions: Tensor


class Evaluator:
    """Measures a VAE on the same validation samples each epoch (the paper, Algorithm 1, lines 7 to 11)."""

    def __init__(
        self,
        validation: Samples,
        features: Features | None,
        *,
        n_clusters: int,
        fid_samples: int,
        silhouette_samples: int,
        seed: int,
        device: torch.device,
    ) -> None:
        """Fix the samples behind the Fréchet distances: the first `fid_samples` of the validation samples."""
        self.samples = validation.x.to(device)
        self._chunk = max(1, min(1000, _CHUNK_NUMBERS // math.prod(validation.shape)))
        self.features, self.n_clusters = features, n_clusters
        self.fid_samples, self.silhouette_samples = fid_samples, silhouette_samples
        self.seed, self.device = seed, device
        self.reference = self._statistics(inputs(self.samples[:fid_samples]))

    def evaluate(self, model: VAE, epoch: int) -> Evaluation:
        """Return the metrics of `model` after `epoch`; the model is left in the mode it was in."""
        was_training = model.training
        model.eval()
        with torch.inference_mode():
            passed = self._pass(model, epoch)
            require_finite(epoch, recon_loss=passed.recon_loss, kl=float(passed.kl.sum()))
            metrics = {
                "recon_loss": passed.recon_loss,
                "kl": float(passed.kl.sum()),
                "silhouette": self._silhouette(passed.z, epoch),
                **self._frechet_distances(model, passed.reconstructions, epoch),
                "active_units": active_units(passed.mu),
            }
        model.train(was_training)
        return Evaluation(metrics, passed.kl.tolist())

    def _pass(self, model: VAE, epoch: int) -> Passed:
        random = generator(self.seed, "validation noise", epoch, self.device)
        noise = torch.randn(len(self.samples), model.latent_dim, generator=random, device=self.device)
        parts: list[tuple[Tensor, Tensor, Tensor, Tensor]] = []
        kept: list[Tensor] = []
        for chunk, chunk_noise in zip(self.samples.split(self._chunk), noise.split(self._chunk), strict=True):
            x = inputs(chunk)
            out = model(x, chunk_noise)
            parts.append((model.likelihood(out.decoded, x), kl_divergence(out.mu, out.log_var), out.mu, out.z))
            if sum(map(len, kept)) < self.fid_samples:
                kept.append(model.likelihood.mean(out.decoded))
        loss, kl, mu, z = (torch.cat(part) for part in zip(*parts, strict=True))
        reconstructions = torch.cat(kept)[: self.fid_samples]
        return Passed(float(loss.cpu().double().mean()), kl.cpu().double().mean(0), mu, z, reconstructions)

    def _silhouette(self, z: Tensor, epoch: int) -> float:
        random = np.random.default_rng(stream_seed(self.seed, "silhouette images", epoch))
        chosen = torch.from_numpy(random.choice(len(z), self.silhouette_samples, replace=False))
        k_means_seed = stream_seed(self.seed, "k-means", epoch) % 2**32
        return silhouette(z[chosen.to(z.device)].cpu().numpy(), self.n_clusters, k_means_seed)

    def _frechet_distances(self, model: VAE, reconstructions: Tensor, epoch: int) -> dict[str, float]:
        if self.reference is None:
            return {}
        random = generator(self.seed, "prior", epoch, self.device)
        prior = torch.randn(self.fid_samples, model.latent_dim, generator=random, device=self.device)
        generated = torch.cat([model.generate(z) for z in prior.split(self._chunk)])
        distances = {}
        for name, samples in (("fid_recon", reconstructions), ("fid_gen", generated)):
            seen = self._statistics(samples)
            assert seen is not None
            distances[name] = frechet_distance(self.reference, seen)
        return distances

    def _statistics(self, samples: Tensor) -> Statistics | None:
        return statistics(self.features(samples)) if self.features is not None else None
