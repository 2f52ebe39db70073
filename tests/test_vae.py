from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import distributions
from torch.distributions import Normal, kl_divergence

from aldvae.compression.surgery import remove_neurons
from aldvae.config.sections import LIKELIHOODS as LIKELIHOOD_NAMES
from aldvae.config.sections import NETWORKS as NETWORK_NAMES
from aldvae.config.sections import POSTERIORS as POSTERIOR_NAMES
from aldvae.config.sections import SCALES as SCALE_NAMES
from aldvae.models.build import NETWORKS, build_vae
from aldvae.models.likelihood import LIKELIHOODS, SCALES, Bernoulli, Gaussian, OptimalGaussian
from aldvae.models.posterior import POSTERIORS, softmax
from aldvae.models.vae import kl_divergence as kl
from aldvae.utils.errors import ArgumentError

SHAPES = {"mlp": (12,), "conv": (3, 16, 16), "video": (3, 4, 8, 8)}


def test_the_networks_likelihoods_and_posteriors_are_those_of_the_options() -> None:
    assert tuple(NETWORKS) == tuple(SHAPES) == NETWORK_NAMES
    assert tuple(LIKELIHOODS) == LIKELIHOOD_NAMES
    assert tuple(POSTERIORS) == POSTERIOR_NAMES
    assert tuple(SCALES) == SCALE_NAMES


def test_kl_is_that_of_torch_distributions() -> None:
    mu, log_var = torch.randn(5, 3), torch.randn(5, 3)
    expected = kl_divergence(Normal(mu, torch.exp(0.5 * log_var)), Normal(0.0, 1.0))
    torch.testing.assert_close(kl(mu, log_var), expected)
    assert torch.equal(kl(torch.zeros(1, 2), torch.zeros(1, 2)), torch.zeros(1, 2))


@given(st.lists(st.lists(st.floats(-10, 10), min_size=4, max_size=4), min_size=1, max_size=5))
def test_the_scales_of_a_softmax_posterior_are_its_softmax(head_output: list[list[float]]) -> None:
    scores = torch.tensor(head_output)
    mu, scale = scores.flip(1), scores.softmax(1)
    log_var = softmax(scores)
    torch.testing.assert_close(torch.exp(0.5 * log_var).sum(1), torch.ones(len(scores)))
    torch.testing.assert_close(torch.exp(0.5 * log_var), scale, atol=1e-6, rtol=1e-4)
    expected = kl_divergence(Normal(mu, scale), Normal(0.0, 1.0))
    torch.testing.assert_close(kl(mu, log_var), expected, atol=1e-3, rtol=1e-4)


def test_recon_loss_is_the_negative_log_likelihood() -> None:
    logits, x = torch.randn(4, 1, 3, 2), torch.rand(4, 1, 3, 2).round()
    expected = -distributions.Bernoulli(logits=logits).log_prob(x).sum((1, 2, 3))
    torch.testing.assert_close(Bernoulli()(logits, x), expected)


def test_a_gaussian_likelihood_is_the_negative_log_density() -> None:
    likelihood, decoded, x = Gaussian(), torch.randn(4, 3), torch.randn(4, 3)
    torch.nn.init.constant_(likelihood.log_scale, -0.7)
    expected = -Normal(decoded, math.exp(-0.7)).log_prob(x).sum(1)
    torch.testing.assert_close(likelihood(decoded, x), expected)


def test_the_gaussian_likelihood_learns_its_scale() -> None:
    likelihood, x = Gaussian(), 0.3 * torch.randn(2000, 5)
    optimizer = torch.optim.Adam(likelihood.parameters(), lr=0.05)
    for _ in range(200):
        optimizer.zero_grad()
        likelihood(torch.zeros_like(x), x).mean().backward()
        optimizer.step()
    assert float(likelihood.log_scale.detach().exp()) == pytest.approx(0.3, rel=0.05)


def test_the_optimal_scale_of_a_batch_is_its_root_mean_squared_error() -> None:
    likelihood, x = OptimalGaussian(), torch.randn(8, 3, 5, dtype=torch.float64)
    decoded = torch.randn(8, 3, 5, dtype=torch.float64, requires_grad=True)
    log_mse = (x - decoded).square().mean().log()
    losses = likelihood(decoded, x)
    assert losses.shape == (8,)
    closed_form = x.numel() / 2 * (1 + math.log(2 * math.pi) + log_mse)
    torch.testing.assert_close(losses.sum(), closed_form)
    (expected,) = torch.autograd.grad(x.numel() / 2 * log_mse, decoded)
    torch.testing.assert_close(torch.autograd.grad(losses.sum(), decoded)[0], expected)
    for other in (0.9, 1.1):
        scale = other * math.exp(0.5 * log_mse.item())
        assert losses.sum() < -Normal(decoded, scale).log_prob(x).sum()


def test_the_optimal_scale_is_bounded_like_a_learned_one() -> None:
    optimal, learned, x = OptimalGaussian(), Gaussian(), torch.randn(4, 3)
    torch.nn.init.constant_(learned.log_scale, -100.0)
    for _ in range(2):
        torch.testing.assert_close(optimal(x, x), learned(x, x))
        optimal.eval()


def test_the_loss_is_refitted_to_the_variance_of_other_samples() -> None:
    likelihood = OptimalGaussian()
    likelihood(torch.zeros(6, 5), 0.1 * torch.randn(6, 5))
    likelihood.eval()
    x = 3 * torch.randn(40, 5, dtype=torch.float64)
    loss = likelihood(torch.zeros_like(x), x).mean()
    expected = 5 / 2 * (1 + torch.log(2 * math.pi * x.square().mean()))
    torch.testing.assert_close(likelihood.refit(loss, 5), expected, rtol=1e-6, atol=1e-6)
    assert likelihood.refit(loss, 5) < loss


def test_the_optimal_scale_in_evaluation_is_an_average_over_batches() -> None:
    likelihood, x = OptimalGaussian(span=3), torch.randn(4, 3)
    likelihood.eval()
    torch.testing.assert_close(likelihood(torch.zeros(4, 3), x), -Normal(0.0, 1.0).log_prob(x).sum(1))
    batches = [scale * torch.randn(size, 3) for scale, size in ((2.0, 6), (0.5, 6), (1.0, 2))]
    likelihood.train()
    for batch in batches:
        likelihood(torch.zeros_like(batch), batch)
    weights = torch.cat([torch.full((len(batch),), weight) for batch, weight in zip(batches, (1, 2, 4), strict=True)])
    mse = (torch.cat(batches).square().mean(1) * weights).sum() / weights.sum()
    likelihood.eval()
    for part in (x, x[:1]):
        expected = -Normal(0.0, mse.sqrt()).log_prob(part).sum(1)
        torch.testing.assert_close(likelihood(torch.zeros_like(part), part), expected)


def test_convolutions_on_a_cpu_run_channels_last() -> None:
    model = build_vae((3, 32, 32), 5, network="conv")
    for maps in (model.encoder.get_submodule("0")(torch.rand(2, 3, 32, 32)), model.decode(torch.randn(2, 5))):
        assert maps.is_contiguous(memory_format=torch.channels_last)


@pytest.mark.parametrize(
    ("shape", "channels"), [((3, 64, 64), None), ((1, 28, 28), 8), ((3, 17, 45), 4), ((2, 16, 16), 4)]
)
def test_the_convolutional_network_supports_other_sizes(shape: tuple[int, ...], channels: int | None) -> None:
    model = build_vae(shape, 5, network="conv", channels=channels)
    x = torch.rand(2, *shape)
    assert model(x, torch.randn(2, 5)).decoded.shape == x.shape


def test_the_eurosat_network_is_the_papers() -> None:
    model = build_vae((3, 64, 64), 20, network="conv", hidden_dim=256)
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    convolutions = [(32, 3, 4, 4), *[(32, 32, 4, 4)] * 3]
    assert shapes[:4] == convolutions
    assert shapes[4:10] == [(256, 512), (256, 256), (20, 256), (20, 256), (256, 20), (256, 256)]
    assert shapes[10:] == [(512, 256), *[(32, 32, 4, 4)] * 3, (32, 3, 4, 4)]


@pytest.mark.parametrize(
    ("network", "shape", "widths", "argument"),
    [
        ("conv", (1, 8, 8), {}, "network"),
        ("conv", (12,), {}, "network"),
        ("video", (3, 64, 64), {}, "network"),
        ("mlp", (1, 8, 8), {"channels": 4}, "channels"),
    ],
)
def test_an_unsupported_shape_or_width_names_the_argument(
    network: str, shape: tuple[int, ...], widths: dict[str, int], argument: str
) -> None:
    with pytest.raises(ArgumentError, match=f"^{argument} "):
        build_vae(shape, 4, network=network, **widths)  # type: ignore[arg-type]


def test_the_mnist_network_is_the_papers() -> None:
    model = build_vae((1, 28, 28), 20, network="mlp", hidden_dim=400)
    shapes = [tuple(p.shape) for name, p in model.named_parameters() if name.endswith("weight")]
    assert shapes == [(400, 784), (400, 400), (20, 400), (20, 400), (400, 20), (400, 400), (784, 400)]


@pytest.mark.parametrize("posterior", POSTERIOR_NAMES)
@pytest.mark.parametrize("likelihood", LIKELIHOOD_NAMES)
@pytest.mark.parametrize(("network", "shape"), SHAPES.items())
def test_samples_follow_the_noise(network: str, shape: tuple[int, ...], likelihood: str, posterior: str) -> None:
    model = build_vae(shape, 3, network=network, likelihood=likelihood, posterior=posterior).eval()
    x, noise = torch.rand(4, *shape), torch.randn(4, 3)
    out = model(x, noise)
    assert out.decoded.shape == x.shape
    torch.testing.assert_close(out.z, out.mu + noise * out.log_var.exp().sqrt())
    torch.testing.assert_close(model.decode(out.z), out.decoded)
    assert model.generate(noise).shape == x.shape


@pytest.mark.parametrize(("network", "shape"), SHAPES.items())
def test_a_removal_does_not_change_the_other_dimensions(network: str, shape: tuple[int, ...]) -> None:
    model, x = build_vae(shape, 6, network=network).eval(), torch.rand(3, *shape)
    mu, log_var = model.encode(x)
    remove_neurons([model.mu, model.log_var], [model.reader], [1, 4])
    keep = [0, 2, 3, 5]
    torch.testing.assert_close(model.encode(x), (mu[:, keep], log_var[:, keep]))
    assert model.decode(torch.randn(3, 4)).shape == x.shape


def test_a_removal_shares_the_softmax_scale_among_the_other_dimensions() -> None:
    model, x = build_vae((12,), 6, network="mlp", posterior="softmax"), torch.rand(3, 12)
    mu, log_var = model.encode(x)
    remove_neurons([model.mu, model.log_var], [model.reader], [1, 4])
    kept_mu, kept_log_var = model.encode(x)
    scale, kept_scale = torch.exp(0.5 * log_var)[:, [0, 2, 3, 5]], torch.exp(0.5 * kept_log_var)
    torch.testing.assert_close(kept_mu, mu[:, [0, 2, 3, 5]])
    torch.testing.assert_close(kept_scale, scale / scale.sum(1, keepdim=True))
