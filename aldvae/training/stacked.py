"""Many runs trained at once: their parameters stacked along a leading axis, their products batched.

Members may have different latent sizes: their layers are padded with zeros to the largest. A padded neuron writes mean
0 and log-variance 0, which costs no KL divergence, and is given no noise, so that its sample is 0; it gets no gradient
and stays what it is. Each member keeps its own seed, order of images, noise, rule and directory; its result equals that
of its lone run but for the rounding of the batched products.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from aldvae.data.dataset import to_float
from aldvae.training.trainer import Trainer, make_optimizer, products_in
from aldvae.utils.seeding import generator

if TYPE_CHECKING:
    from aldvae.training.loop import Run


def run_together(runs: Sequence[Run], ended: Callable[[Run, Exception | None], None]) -> None:
    """Do what is left of `runs`, all of one `sweeps.stack_key`; tell `ended` of each as it finishes or raises.

    One that raises leaves the others alone. Runs that were resumed at an earlier epoch are trained first, until they
    have caught up.
    """
    going = list(runs)
    while going:
        epoch = min(run.epoch for run in going)
        group = [run for run in going if run.epoch == epoch]
        begin = time.perf_counter()
        losses = train_together([run.trainer for run in group], epoch)
        seconds = (time.perf_counter() - begin) / len(group)
        for run, loss in zip(group, losses, strict=True):
            error = _concluded(run, loss, seconds)
            if error is not None or run.done:
                going.remove(run)
                ended(run, error)


def _concluded(run: Run, loss: float, seconds: float) -> Exception | None:
    try:
        run.conclude(loss, seconds)
        if run.done:
            run.finish()
    except Exception as error:
        return error
    return None


def train_together(trainers: Sequence[Trainer], epoch: int) -> list[float]:
    """Train each of `trainers` for `epoch`, all at once; return what `Trainer.train_epoch` of each would."""
    config, device = trainers[0].config, trainers[0].device
    stack = _Stack(trainers)
    samples = trainers[0].samples
    order = torch.stack([trainer.order(epoch) for trainer in trainers]).to(device)
    random = [generator(trainer.config.seed, "noise", epoch, device) for trainer in trainers]
    totals = torch.zeros(len(trainers), device=device)
    for index in order.split(config.batch_size, dim=1):
        noise = stack.pad([_noise(t, index.shape[1], r) for t, r in zip(trainers, random, strict=True)])
        losses = stack.step(to_float(samples.index_select(0, index.flatten())).unflatten(0, index.shape), noise)
        totals += losses * index.shape[1]
    stack.give_back()
    return [float(total) for total in (totals / len(samples)).tolist()]


def _noise(trainer: Trainer, batch_size: int, random: torch.Generator) -> Tensor:
    return torch.randn(batch_size, trainer.model.latent_dim, generator=random, device=trainer.device)


class _Loss(nn.Module):
    """The loss of one member as a module, so that it can be stacked."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.model, self.config = trainer.model, trainer.config

    def forward(self, x: Tensor, noise: Tensor) -> Tensor:
        return self.model.loss(x, noise, self.config.beta)


class _Stack:
    """The members' parameters and moments, padded to the largest latent size and stacked, for one epoch."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = trainers
        self.size = max(trainer.model.latent_dim for trainer in trainers)
        largest = next(trainer for trainer in trainers if trainer.model.latent_dim == self.size)
        self._loss = _Loss(largest)
        largest.model.train()
        self._members = [dict(_Loss(trainer).named_parameters()) for trainer in trainers]
        self.parameters = {name: self._stacked([m[name] for m in self._members]) for name in self._members[0]}
        self._buffers = dict(self._loss.named_buffers())
        self.optimizer = make_optimizer(list(self.parameters.values()), trainers[0].config.lr, trainers[0].device)
        for name, parameter in self.parameters.items():
            self._take_moments(name, parameter)

        def loss(parameters: dict[str, Tensor], x: Tensor, noise: Tensor) -> Tensor:
            value: Tensor = functional_call(self._loss, (parameters, self._buffers), (x, noise))
            return value

        self._gradients = vmap(grad_and_value(loss), randomness="error")

    def _take_moments(self, name: str, parameter: Tensor) -> None:
        states = [t.optimizer.state[m[name]] for t, m in zip(self.trainers, self._members, strict=True)]
        if all(states):
            self.optimizer.state[parameter] = {
                key: self._stacked([state[key] for state in states]) if value.ndim else value.clone()
                for key, value in states[0].items()
            }

    def _stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        return self.pad([tensor.detach() for tensor in tensors]).clone()

    def pad(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack the members' versions of one tensor, padded with zeros where the latent size makes them differ."""
        shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
        padded = []
        for tensor in tensors:
            missing = [(0, full - size) for full, size in zip(shape, tensor.shape, strict=True)]
            padded.append(F.pad(tensor, [n for pair in reversed(missing) for n in pair]))
        return torch.stack(padded)

    def step(self, x: Tensor, noise: Tensor) -> Tensor:
        """Take one step of every member on x (R, B, *shape) with noise (R, B, n_z); return the losses (R,)."""
        with products_in(self.trainers[0].config.precision, x.device):
            gradients, losses = self._gradients(self.parameters, x, noise)
        assert isinstance(losses, Tensor)
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name]
        self.optimizer.step()
        return losses

    @torch.no_grad()
    def give_back(self) -> None:
        """Give every member its own part of parameters and moments."""
        for name, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            for number, (trainer, member) in enumerate(zip(self.trainers, self._members, strict=True)):
                own = member[name]
                part = tuple(slice(0, size) for size in own.shape)
                own.copy_(parameter[number][part])
                trainer.optimizer.state[own] = {
                    key: value[number][part].clone() if value.ndim else value.clone() for key, value in state.items()
                }
