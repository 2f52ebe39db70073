"""Two answers read off a model that is too large, after its last epoch: the dimensions that it uses.

*Active units* (Burda, Grosse and Salakhutdinov 2016) are dimensions whose posterior mean has a variance over samples
above 0.01. *KL divergence* counts the dimensions whose KL divergence is above 0.1 nats. If the model uses all of its
dimensions, it was not too large, and its size was not found.
"""

from __future__ import annotations

from aldvae.compression.rules.base import SMALLEST_DIM
from peers.problems import Answer, Problem, cost_of

INFORMATIVE = 0.1


def active_units(problem: Problem, seed: int) -> Answer:
    """Return the number of active units of the oversized model."""
    count = problem.trained(problem.largest, seed).answer["final"]["active_units"]
    assert isinstance(count, int)
    return _answer(problem, seed, count)


def kl_divergence(problem: Problem, seed: int) -> Answer:
    """Return the number of dimensions of the oversized model with a KL divergence above 0.1 nats."""
    latent = problem.trained(problem.largest, seed).latent
    last = latent[latent["epoch"] == latent["epoch"].max()]
    return _answer(problem, seed, int((last["kl"] > INFORMATIVE).sum()))


def _answer(problem: Problem, seed: int, count: int) -> Answer:
    cost = cost_of(problem.trained(problem.largest, seed))
    return Answer(max(SMALLEST_DIM, count), cost, found=count < problem.largest)
