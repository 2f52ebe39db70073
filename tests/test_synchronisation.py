"""Reading a number from a GPU waits for it: an epoch may do so once at its end, but not at each step."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

from aldvae.training.stacked import train_stack
from aldvae.training.trainer import Trainer
from tests.conftest import TINY, digits, resolve

# Operations that return a number, or a size that depends on data (such as indexing by a mask), to Python; and one that
# makes a tensor of Python numbers.
WAITING = ("_local_scalar_dense", "nonzero", "masked_select", "equal", "index", "lift_fresh")


class Waits(TorchDispatchMode):
    """Counts the operations that would wait for a GPU or copy to it."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.counted = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func.overloadpacket.__name__
        self.counted += name in WAITING
        return func(*args, **(kwargs or {}))


def trainers(batch_size: int, **changes: Any) -> list[Trainer]:
    """Return two trainers of different sizes after their first epoch, in which optimisers create their state."""
    settings = {**TINY, "batch_size": batch_size, "fid_features": "none", **changes}
    configs = [resolve("adaptive", "digits", **{**settings, "init_dim": size}) for size in (14, 9)]
    pair = [Trainer(config, digits(200), torch.device("cpu")) for config in configs]
    train_stack(pair, 1)
    return pair


def waits(call: Callable[[], object]) -> int:
    """Return how many operations of `call` would wait for a GPU."""
    mode = Waits()
    with mode:
        call()
    return mode.counted


def test_operations_that_wait_are_counted() -> None:
    x = torch.arange(4.0)
    assert waits(lambda: float(x.sum())) == 1
    assert waits(lambda: x[x > 1]) >= 1
    assert waits(lambda: x[[0, 2]]) >= 1
    assert waits(lambda: x.index_select(0, x.argsort())) == 0


@pytest.mark.parametrize("changes", [{}, {"likelihood": "gaussian", "precision": "bfloat16"}])
def test_an_epoch_waits_once_however_many_steps_it_has(changes: dict[str, Any]) -> None:
    for batch_size in (10, 100):
        pair = trainers(batch_size, **changes)
        assert waits(lambda pair=pair: pair[0].train_epoch(2)) == 1  # type: ignore[misc]
        assert waits(lambda pair=pair: train_stack(pair, 3)) <= 2  # type: ignore[misc]


def test_an_epoch_with_the_optimal_scale_waits_once() -> None:
    settings = {**TINY, "fid_features": "none", "likelihood": "gaussian", "scale": "optimal"}
    trainer = Trainer(resolve("adaptive", "digits", **settings), digits(200), torch.device("cpu"))
    trainer.train_epoch(1)
    assert waits(lambda: trainer.train_epoch(2)) == 1
