"""Images of a trained model: reconstructions, samples from the prior, latent traversals; and its latent space."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Samples, to_float
from aldvae.data.image_grid import image_file
from aldvae.metrics.clustering import find_clusters
from aldvae.models.vae import VAE, kl_divergence
from aldvae.runs.records import LATENT_SPACE, csv_text
from aldvae.utils.devices import limit_new_threadpools
from aldvae.utils.rounding import round_for_csv
from aldvae.utils.seeding import generator, stream_seed

_COLUMNS, _ROWS = 10, 4
# A traversal shows so many dimensions, each in so many steps from -_RANGE to _RANGE.
_DIMENSIONS, _STEPS, _RANGE = 12, 9, 2.5
# Validation samples in the table of the latent space.
_POINTS = 1000


@torch.inference_mode()
def artifact_files(model: VAE, config: RunConfig, validation: Samples) -> dict[str, bytes]:
    """Return the files that show `model`, by name; the model stays in its mode (training or evaluation).

    ``reconstructions``: ten validation samples above their reconstructions. ``samples``: decoded samples of the prior.
    ``traversal``: a row for each of the 12 dimensions with the highest KL divergence, which goes from -2.5 to 2.5 while
    the others stay at the posterior mean of the first validation sample. All three are PNG files, animated GIF files
    for video, and left out for vectors. ``latent_space.csv``: posterior means projected to two dimensions.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    x = to_float(validation.on(device)[:_POINTS])
    mu, log_var = _encode(model, x)
    files = {"latent_space.csv": _latent_space(mu.cpu().numpy(), config, validation.labels)}
    if not validation.is_vectors:
        files |= _grids(model, config, x, mu, log_var)
    model.train(was_training)
    return files


def _encode(model: VAE, x: Tensor) -> tuple[Tensor, Tensor]:
    parts = [model.encode(chunk) for chunk in x.split(50)]
    return torch.cat([mu for mu, _ in parts]), torch.cat([log_var for _, log_var in parts])


def _grids(model: VAE, config: RunConfig, x: Tensor, mu: Tensor, log_var: Tensor) -> dict[str, bytes]:
    shown = min(_COLUMNS, len(x))
    prior = generator(config.training.seed, "pictures", 0, x.device)
    z = torch.randn(_ROWS * _COLUMNS, model.latent_dim, generator=prior, device=x.device)
    kl = kl_divergence(mu, log_var).mean(0)
    order = kl.argsort(descending=True, stable=True)[:_DIMENSIONS]
    traversal = mu[0].repeat(len(order), _STEPS, 1)
    for row, dimension in enumerate(order):
        traversal[row, :, dimension] = torch.linspace(-_RANGE, _RANGE, _STEPS, device=x.device)
    grids = {
        "reconstructions": (torch.cat([x[:shown], model.generate(mu[:shown])]), shown),
        "samples": (model.generate(z), _COLUMNS),
        "traversal": (model.generate(traversal.flatten(0, 1)), _STEPS),
    }
    return dict(image_file(name, samples, columns) for name, (samples, columns) in grids.items())


def _latent_space(mu: np.ndarray, config: RunConfig, labels: Tensor | None) -> bytes:
    """Return a CSV of posterior means (N, n_z) on their two leading principal components, with class and cluster.

    Either is empty where there are none.
    """
    from sklearn.decomposition import PCA

    with limit_new_threadpools():
        points = PCA(2, svd_solver="full").fit_transform(mu)
    empty, n_clusters = [""] * len(mu), config.data.clusters
    seed = stream_seed(config.training.seed, "k-means") % 2**32
    clusters = empty if n_clusters is None else find_clusters(mu, n_clusters, seed).tolist()
    classes = empty if labels is None else labels[: len(mu)].tolist()
    rows = zip(points.tolist(), classes, clusters, strict=True)
    points_text = [[round_for_csv(x), round_for_csv(y), label, cluster] for (x, y), label, cluster in rows]
    return csv_text([LATENT_SPACE, *points_text]).encode()
