"""The ascending scan: train 2, 4, 8, ... dimensions until the loss stops falling, then sizes between."""

from __future__ import annotations

from collections.abc import Callable

from aldvae.compression.rules.base import SMALLEST_DIM
from peers.problems import Answer, Cost, Problem, cost_of, final_loss


def scan(loss: Callable[[int], float], largest: int) -> dict[int, float]:
    """Return the losses of the sizes that the scan tries; the smallest loss is its answer.

    The size doubles from 2 until the loss no longer falls, or until it would exceed `largest`. Then the size halfway to
    the next smaller and the one halfway to the next larger are tried.
    """
    size = SMALLEST_DIM
    losses = {size: loss(size)}
    while 2 * size <= largest:
        losses[2 * size] = loss(2 * size)
        if losses[2 * size] >= losses[size]:
            break
        size *= 2
    for between in (size * 3 // 4, size * 3 // 2):
        if SMALLEST_DIM <= between <= largest and between not in losses:
            losses[between] = loss(between)
    return losses


def ascending_scan(problem: Problem, seed: int) -> Answer:
    """Return the size with the smallest loss that the scan finds, at the cost of all models that it trains."""
    losses = scan(lambda size: final_loss(problem.trained(size, seed)), problem.largest)
    costs = [cost_of(problem.trained(size, seed)) for size in losses]
    cost = Cost(sum(cost.images for cost in costs), sum(cost.seconds for cost in costs))
    size = min(sorted(losses), key=lambda size: losses[size])
    return Answer(size, cost, found=size < problem.largest, is_trained=True)
