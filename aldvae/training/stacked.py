"""Training a stack of models at once: parameters stacked along a leading axis, matrix products batched over it.

The models may differ in latent size: their layers are padded with zeros to the largest. A padded neuron outputs mean 0
and log-variance 0, which costs no KL divergence, and gets no noise, so that its sample is 0; its gradient is 0, and it
stays 0. Each run keeps its own seed, order of samples, noise, rule and directory. Its result equals that of a lone run
up to the rounding of the batched products.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.func import functional_call, grad_and_value, vmap

from aldvae.data.dataset import to_float
from aldvae.training.optimizer import make_optimizer
from aldvae.training.trainer import Trainer, autocast
from aldvae.utils.seeding import generator


def train_stack(trainers: Sequence[Trainer], epoch: int) -> list[float]:
    """Train all of `trainers` for `epoch` at once; return the loss of each, as `Trainer.train_epoch` does for one."""
    config, device = trainers[0].config, trainers[0].device
    stack = _Stack(trainers)
    samples = trainers[0].samples
    order = torch.stack([trainer.order(epoch) for trainer in trainers]).to(device)
    random = [generator(trainer.config.training.seed, "noise", epoch, device) for trainer in trainers]
    totals = torch.zeros(len(trainers), device=device)
    batches = order.split(config.training.batch_size, dim=1)
    for step, index in enumerate(batches):
        noise = stack.pad([_noise(t, index.shape[1], r) for t, r in zip(trainers, random, strict=True)])
        x = to_float(samples.index_select(0, index.flatten())).unflatten(0, index.shape)
        totals += stack.step(x, noise, trainers[0].kl_weight(epoch, step / len(batches))) * index.shape[1]
    stack.unstack()
    return [float(total) for total in (totals / len(samples)).tolist()]


def _noise(trainer: Trainer, batch_size: int, random: torch.Generator) -> Tensor:
    return torch.randn(batch_size, trainer.model.latent_dim, generator=random, device=trainer.device)


class _Loss(nn.Module):
    """The loss of a model as a module, whose parameters can be stacked."""

    def __init__(self, trainer: Trainer) -> None:
        super().__init__()
        self.model = trainer.model

    def forward(self, x: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
        return self.model.loss(x, noise, kl_weight)


class _Stack:
    """Parameters and Adam moments of all trainers, padded to the largest latent size and stacked, for one epoch."""

    def __init__(self, trainers: Sequence[Trainer]) -> None:
        self.trainers = trainers
        largest = max(trainers, key=lambda trainer: trainer.model.latent_dim)
        self._loss = _Loss(largest)
        largest.model.train()
        self._members = [dict(_Loss(trainer).named_parameters()) for trainer in trainers]
        self.parameters = {name: self._stacked([m[name] for m in self._members]) for name in self._members[0]}
        self._buffers = dict(self._loss.named_buffers())
        self.optimizer = make_optimizer(
            list(self.parameters.values()), trainers[0].config.training.lr, trainers[0].device
        )
        for name, parameter in self.parameters.items():
            self._stack_moments(name, parameter)

        def loss(parameters: dict[str, Tensor], x: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
            value: Tensor = functional_call(self._loss, (parameters, self._buffers), (x, noise, kl_weight))
            return value

        self._gradients = vmap(grad_and_value(loss), in_dims=(0, 0, 0, None), randomness="error")

    def _stack_moments(self, name: str, parameter: Tensor) -> None:
        states = [t.optimizer.state[m[name]] for t, m in zip(self.trainers, self._members, strict=True)]
        # Before the first epoch there are none.
        if all(states):
            self.optimizer.state[parameter] = {
                key: self._stacked([state[key] for state in states]) if value.ndim else value.clone()
                for key, value in states[0].items()
            }

    def _stacked(self, tensors: Sequence[Tensor]) -> Tensor:
        return self.pad([tensor.detach() for tensor in tensors]).clone()

    def pad(self, tensors: Sequence[Tensor]) -> Tensor:
        """Stack one tensor of each trainer, padded with zeros where the latent sizes make their shapes differ."""
        shape = [max(sizes) for sizes in zip(*(tensor.shape for tensor in tensors), strict=True)]
        padded = []
        for tensor in tensors:
            missing = [(0, full - size) for full, size in zip(shape, tensor.shape, strict=True)]
            padded.append(F.pad(tensor, [n for pair in reversed(missing) for n in pair]))
        return torch.stack(padded)

    def step(self, x: Tensor, noise: Tensor, kl_weight: float) -> Tensor:
        """Take one optimiser step for each of R models on x (R, B, *shape), noise (R, B, n_z); return losses (R,)."""
        with autocast(self.trainers[0].precision, x.device):
            gradients, losses = self._gradients(self.parameters, x, noise, kl_weight)
        assert isinstance(losses, Tensor)
        for name, parameter in self.parameters.items():
            parameter.grad = gradients[name]
        self.optimizer.step()
        return losses

    @torch.no_grad()
    def unstack(self) -> None:
        """Copy parameters and moments back into each trainer, without the padding."""
        for name, parameter in self.parameters.items():
            state = self.optimizer.state[parameter]
            for number, (trainer, member) in enumerate(zip(self.trainers, self._members, strict=True)):
                own = member[name]
                part = tuple(slice(0, size) for size in own.shape)
                own.copy_(parameter[number][part])
                trainer.optimizer.state[own] = {
                    key: value[number][part].clone() if value.ndim else value.clone() for key, value in state.items()
                }
