"""``--precision auto``: whether this machine trains the model of a run faster in bfloat16 than in float32."""

from __future__ import annotations

import time
from dataclasses import dataclass

import torch

from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Dataset, to_float
from aldvae.training.trainer import Trainer
from aldvae.utils.seeding import generator

# Half precision loses digits, so it must gain something: a step takes at most this fraction of the time in float32.
_CLEARLY_FASTER = 0.8
# Steps of each kind that do not count, since they allocate memory; the fewest that do; and seconds of all that do.
_WARM_UP, _FEWEST, _SECONDS = 1, 2, 0.3


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a training step in each precision."""

    float32: float
    bfloat16: float

    @property
    def precision(self) -> str:
        """``"bfloat16"`` if that is clearly faster, else ``"float32"``."""
        return "bfloat16" if self.bfloat16 <= _CLEARLY_FASTER * self.float32 else "float32"

    def __str__(self) -> str:
        """Return the choice and its reason."""
        times = f"{1000 * self.bfloat16:.3g} ms in bfloat16 and {1000 * self.float32:.3g} ms in float32"
        return f"--precision auto: {self.precision}, since a training step takes {times}"


def measure_steps(config: RunConfig, data: Dataset, device: torch.device) -> StepTimes:
    """Time whole training steps of two fresh models of the run, alternately.

    A step is forward, backward and optimiser: products alone would promise more than a small network gains. The fastest
    step of each counts, because other programs on the machine only add to the time. It takes 0.3 seconds and the first
    steps, or six steps where these take longer.
    """
    seconds = dict[str, list[float]]()
    trainers = [Trainer(config.override(precision=name), data, device) for name in ("float32", "bfloat16")]
    start = float("inf")
    for number in range(1000):
        if number == _WARM_UP:
            start = time.perf_counter()
        if number >= _WARM_UP + _FEWEST and time.perf_counter() - start > _SECONDS:
            break
        for trainer in trainers:
            seconds.setdefault(trainer.precision, []).append(time_step(trainer))
    return StepTimes(**{name: min(times[_WARM_UP:]) for name, times in seconds.items()})


def time_step(trainer: Trainer) -> float:
    """Return the seconds of a training step on the first samples of `trainer`; it changes the model."""
    config, device = trainer.config, trainer.device
    x = to_float(trainer.samples[: config.training.batch_size])
    random = generator(config.training.seed, "precision", device=device)
    trainer.model.train()
    start = time.perf_counter()
    trainer.step(x, random, config.model.beta)
    if device.type != "cpu":
        getattr(torch, device.type).synchronize()
    return time.perf_counter() - start
