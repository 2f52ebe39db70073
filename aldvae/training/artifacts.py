"""Pictures of a trained model, left in its run's directory: what it keeps, dreams, and means by each dimension."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Samples, inputs
from aldvae.metrics.clustering import find_clusters
from aldvae.models.vae import VAE, kl_divergence
from aldvae.runs.records import LATENT_SPACE
from aldvae.utils.devices import late_libraries
from aldvae.utils.files import rounded
from aldvae.utils.seeding import generator, stream_seed

_COLUMNS, _ROWS = 10, 4
_DIMENSIONS, _STEPS, _REACH = 12, 9, 2.5
_POINTS = 1000
# Pixels: small pictures are enlarged to this height, each pixel to a square.
_HEIGHT = 48
_FRAME_MILLISECONDS = 150


@torch.inference_mode()
def draw_pictures(model: VAE, config: RunConfig, validation: Samples) -> dict[str, bytes]:
    """Return the files that show `model`, by name; the model is left in the mode it was in.

    ``reconstructions``: ten validation samples above what the model makes of them. ``samples``: decoded from the prior.
    ``traversal``: a row for each of the dimensions with the highest KL divergence, from -2.5 to 2.5, the others at
    the posterior mean of the first validation sample. PNG, animated GIF for video, none for vectors.
    ``latent_space.csv``: posterior means in two dimensions.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    x = inputs(validation.x[:_POINTS].to(device))
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
    prior = generator(config.seed, "pictures", 0, x.device)
    z = torch.randn(_ROWS * _COLUMNS, model.latent_dim, generator=prior, device=x.device)
    kl = kl_divergence(mu, log_var).mean(0)
    order = kl.argsort(descending=True, stable=True)[:_DIMENSIONS]
    moved = mu[0].repeat(len(order), _STEPS, 1)
    for row, dimension in enumerate(order):
        moved[row, :, dimension] = torch.linspace(-_REACH, _REACH, _STEPS, device=x.device)
    grids = {
        "reconstructions": (torch.cat([x[:shown], model.generate(mu[:shown])]), shown),
        "samples": (model.generate(z), _COLUMNS),
        "traversal": (model.generate(moved.flatten(0, 1)), _STEPS),
    }
    return dict(_picture(name, samples, columns) for name, (samples, columns) in grids.items())


def _picture(name: str, samples: Tensor, columns: int) -> tuple[str, bytes]:
    """Return name and content of a picture of `samples` (N, C, H, W), or of video (N, C, T, H, W), in rows."""
    content = io.BytesIO()
    if samples.ndim == 4:
        _grid(samples, columns).save(content, "PNG")
        return f"{name}.png", content.getvalue()
    first, *others = [_grid(samples[:, :, frame], columns) for frame in range(samples.shape[2])]
    first.save(content, "GIF", save_all=True, append_images=others, duration=_FRAME_MILLISECONDS, loop=0)
    return f"{name}.gif", content.getvalue()


def _grid(samples: Tensor, columns: int) -> Image.Image:
    pixels = (samples.clamp(0, 1) * 255).round().to(torch.uint8).movedim(1, -1).cpu().numpy()
    scale = max(1, -(-_HEIGHT // pixels.shape[1]))
    pixels = np.pad(pixels, ((0, 0), (0, 1), (0, 1), (0, 0)), constant_values=255)
    rows = [np.concatenate(list(pixels[start : start + columns]), axis=1) for start in range(0, len(pixels), columns)]
    picture = np.concatenate(rows, axis=0)[:-1, :-1]
    if picture.shape[-1] not in (1, 3):
        picture = picture[..., :1]
    image = Image.fromarray(picture[..., 0] if picture.shape[-1] == 1 else picture)
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _latent_space(mu: np.ndarray, config: RunConfig, labels: Tensor | None) -> bytes:
    """Return posterior means projected on their two leading principal components, with class and cluster."""
    from sklearn.decomposition import PCA

    with late_libraries():
        points = PCA(2, svd_solver="full").fit_transform(mu)
    clusters: Sequence[int] = find_clusters(mu, config.clusters, stream_seed(config.seed, "k-means") % 2**32).tolist()
    classes = [""] * len(mu) if labels is None else labels[: len(mu)].tolist()
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(LATENT_SPACE)
    for (one, two), label, cluster in zip(points.tolist(), classes, clusters, strict=True):
        writer.writerow([rounded(one), rounded(two), label, cluster])
    return text.getvalue().encode()
