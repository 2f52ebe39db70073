from __future__ import annotations

import pytest
import torch
from torch.distributions import Bernoulli, Normal, kl_divergence

from aldvae.config import NETWORKS as NETWORK_NAMES
from aldvae.models import NETWORKS, build_vae
from aldvae.models.vae import kl_divergence as kl
from aldvae.models.vae import recon_loss


def test_the_networks_are_those_of_the_options() -> None:
    assert tuple(NETWORKS) == NETWORK_NAMES


def test_kl_is_that_of_torch_distributions() -> None:
    mu, log_var = torch.randn(5, 3), torch.randn(5, 3)
    expected = kl_divergence(Normal(mu, torch.exp(0.5 * log_var)), Normal(0.0, 1.0))
    torch.testing.assert_close(kl(mu, log_var), expected)
    assert torch.equal(kl(torch.zeros(1, 2), torch.zeros(1, 2)), torch.zeros(1, 2))


def test_recon_loss_is_the_negative_log_likelihood() -> None:
    logits, x = torch.randn(4, 1, 3, 2), torch.rand(4, 1, 3, 2).round()
    expected = -Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(recon_loss(logits, x), expected)


def test_the_mnist_network_is_the_papers() -> None:
    model = build_vae("mlp", (1, 28, 28), 400, 20)
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    assert shapes == [(400, 784), (400, 400), (20, 400), (20, 400), (400, 20), (400, 400), (784, 400)]


@pytest.mark.parametrize("network", NETWORK_NAMES)
def test_samples_follow_the_noise(network: str) -> None:
    model = build_vae(network, (1, 8, 8), 16, 3)
    x, noise = torch.rand(4, 1, 8, 8), torch.randn(4, 3)
    out = model(x, noise)
    assert out.logits.shape == x.shape
    torch.testing.assert_close(out.z, out.mu + noise * out.log_var.exp().sqrt())
    torch.testing.assert_close(model.decode(out.z), out.logits)
