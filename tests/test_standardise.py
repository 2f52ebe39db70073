from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

import aldvae
from aldvae.config.execution import Execution
from aldvae.data.dataset import Dataset, Samples
from aldvae.models.build import build_vae
from aldvae.models.vae import VAE
from aldvae.training.loop import run
from aldvae.training.trainer import Trainer
from tests.conftest import TINY, digits, resolve

MEAN, SCALE = torch.tensor(0.3), torch.tensor(0.2)


def model(shape: tuple[int, ...] = (1, 6, 6)) -> VAE:
    torch.manual_seed(0)
    return build_vae(shape, 3, network="mlp", hidden_dim=8, likelihood="gaussian", scale="optimal")


def test_the_statistics_are_those_of_all_training_values() -> None:
    pixels = torch.randint(0, 256, (250, 3, 4, 5), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    mean, scale = Dataset("x", Samples(pixels), Samples(pixels[:1])).pixel_statistics
    values = pixels.double() / 255
    torch.testing.assert_close(mean, values.mean().float())
    torch.testing.assert_close(scale, values.std(correction=0).float())
    assert float(Dataset("x", Samples(pixels[:1, :1, :1, :1]), Samples(pixels)).pixel_statistics.scale) > 0


def test_inside_the_model_everything_is_as_with_standardised_images() -> None:
    x, noise = torch.rand(7, 1, 6, 6), torch.randn(7, 3)
    inside, outside = model(), model()
    inside.standardise_pixels(MEAN, SCALE)
    torch.nn.init.constant_(outside.log_var.bias, -4.0)
    z = (x - MEAN) / SCALE
    for ours, theirs in zip(inside.encode(x), outside.encode(z), strict=True):
        torch.testing.assert_close(ours, theirs)
    torch.testing.assert_close(inside.generate(noise), outside.generate(noise) * SCALE + MEAN)
    # The density of a scaled value is divided by the scale, so that nats stay comparable with those of other models.
    losses = [vae.loss(values, noise, 1.0) for vae, values in ((inside, x), (outside, z))]
    torch.testing.assert_close(losses[0], losses[1] + 36 * math.log(0.2))
    gradients = [
        torch.autograd.grad(loss, list(vae.parameters())) for loss, vae in zip(losses, (inside, outside), strict=True)
    ]
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_run_trains_on_standardised_images_and_its_model_maps_images_to_images(tmp_path: Path) -> None:
    settings = TINY | {"epochs": 40, "lr": 0.01, "hidden_dim": 64, "patience": 50}
    settings |= {"likelihood": "gaussian", "scale": "optimal"}
    config = resolve("adaptive", "digits", protocol="paper", standardise=True, **settings)
    data = digits(TINY["limit"])
    fresh = Trainer(config, data, torch.device("cpu")).model
    assert (fresh.pixel_mean, fresh.pixel_scale) == data.pixel_statistics
    loaded = aldvae.load(run(config, Execution(results_dir=tmp_path)).path)
    assert (loaded.pixel_mean, loaded.pixel_scale) == data.pixel_statistics
    images = data.validation.x.float() / 255
    with torch.inference_mode():
        reconstructed = loaded.generate(loaded.encode(images)[0])
    mean_image = (data.train.x.float() / 255).mean(0)
    assert float((reconstructed - images).square().mean()) < float((mean_image - images).square().mean())
    assert "standardise" not in resolve("adaptive", "digits", protocol="paper", **settings).to_json()


def test_a_model_without_standardisation_stays_as_it_was() -> None:
    plain = model()
    assert not any(name.startswith("pixel") for name in plain.state_dict())
    assert float(plain.log_var.bias.detach().abs().max()) < 1
    standardised = model()
    standardised.standardise_pixels(MEAN, SCALE)
    with pytest.raises(RuntimeError, match="pixel_mean"):
        plain.load_state_dict(standardised.state_dict())
