"""ARD-VAE (Saha, Joshi and Whitaker, WACV 2025, arXiv 2501.10901), written from the paper, on the VAE of a problem.

The prior of each latent axis is a normal distribution of mean 0 whose variance is not 1 but estimated from the data:
with an uninformative Gamma hyperprior it is b / a with a = n / 2 and b = sum(z^2) / 2 for n encoded samples z. (The
exact prior is Student's t; for many samples it is close to this normal distribution, which the paper uses.) In every
epoch, some training samples are set aside for this estimate, and the model is trained on the others.

An axis is relevant if it has variance and the decoder reacts to it: its score is the variance of its prior times the
mean squared derivative of the reconstruction. The relevant axes are the fewest whose scores add up to 99%. Training is
otherwise that of the problem, without KL warm-up, which the paper does not have.
"""

from __future__ import annotations

import time

import torch
from torch import Tensor

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.data.dataset import to_float
from aldvae.models.vae import VAE
from aldvae.training.trainer import Trainer, autocast
from aldvae.utils.seeding import generator
from peers.problems import Answer, Cost, Problem

# The fraction of the training samples that is set aside for the prior (about that of the paper), and the most of them.
SET_ASIDE, MOST_SET_ASIDE = 0.2, 10_000
RELEVANT = 0.99
# Derivatives are averaged over so many samples, and taken over this step.
DERIVATIVE_SAMPLES, STEP = 100, 0.01


def prior_variance(z: Tensor) -> Tensor:
    """Return the variance b / a of each axis of the prior, (n_z,), for encoded samples z (N, n_z)."""
    # Below this, float32 would lose the ratio of the posterior's variance to the prior's.
    return z.square().mean(0).clamp(min=1e-8)


def kl_divergence(mu: Tensor, log_var: Tensor, variance: Tensor) -> Tensor:
    """Return KL(q(z|x) || N(0, variance)) in nats for each sample and axis, (B, n_z)."""
    return 0.5 * ((mu.square() + log_var.exp()) / variance - 1 - log_var + variance.log())


def train_epoch(trainer: Trainer, epoch: int) -> Tensor:
    """Estimate the prior from some of the training samples and train on the others; return its variance (n_z,)."""
    config, model = trainer.config, trainer.model
    order = trainer.order(epoch)
    set_aside = min(MOST_SET_ASIDE, round(SET_ASIDE * len(order)))
    random = generator(config.training.seed, "noise", epoch)
    variance = prior_variance(encoded(model, to_float(trainer.samples[order[:set_aside]]), random))
    model.train()
    for index in order[set_aside:].split(config.training.batch_size):
        x = to_float(trainer.samples[index])
        with autocast(config.training.precision, trainer.device):
            out = model(x, torch.randn(len(x), model.latent_dim, generator=random))
        kl = kl_divergence(out.mu.float(), out.log_var.float(), variance)
        loss = (model.likelihood(out.decoded.float(), x).sum() + config.model.beta * kl.sum()) / len(x)
        trainer.optimizer.zero_grad()
        loss.backward()
        trainer.optimizer.step()
    return variance


@torch.no_grad()
def encoded(model: VAE, x: Tensor, random: torch.Generator) -> Tensor:
    """Return samples of the posteriors (N, n_z) for x (N, *shape)."""
    model.eval()
    mu, log_var = (torch.cat(part) for part in zip(*map(model.encode, x.split(500)), strict=True))
    return mu + torch.randn(mu.shape, generator=random) * torch.exp(0.5 * log_var)


@torch.no_grad()
def squared_derivatives(model: VAE, x: Tensor) -> Tensor:
    """Return the squared norm of the reconstruction's derivative by each posterior mean, (n_z,), averaged over x.

    x is (N, *shape). Derivatives are central differences, because not every layer has a forward derivative.
    """
    model.eval()
    mu = model.encode(x)[0]
    sums = torch.zeros(model.latent_dim)
    for axis in range(model.latent_dim):
        step = torch.zeros(model.latent_dim)
        step[axis] = STEP
        derivative = (model.generate(mu + step) - model.generate(mu - step)) / (2 * STEP)
        sums[axis] = derivative.square().sum() / len(x)
    return sums


def relevant_axes(scores: Tensor) -> int:
    """Return the smallest number of axes whose `scores` (n_z,) add up to 99% of all."""
    shares = scores.double().sort(descending=True).values.cumsum(0) / scores.double().sum()
    return min(len(scores), int((shares < RELEVANT).sum()) + 1)


def ard_vae(problem: Problem, seed: int) -> Answer:
    """Return the number of relevant axes of an ARD-VAE that starts with the oversized size."""
    start = time.perf_counter()
    trainer = Trainer(problem.configured(problem.largest, seed), problem.data, torch.device("cpu"))
    epochs = problem.config.training.epochs
    for epoch in range(1, epochs + 1):
        variance = train_epoch(trainer, epoch)
    derivatives = squared_derivatives(trainer.model, problem.samples(seed)[:DERIVATIVE_SAMPLES])
    size = relevant_axes(variance * derivatives)
    cost = Cost(epochs * len(trainer.samples), time.perf_counter() - start)
    return Answer(max(SMALLEST_DIM, size), cost, found=size < problem.largest)
