"""A rehearsal of a removal: does the user's forward pass agree with the slots, before and after?"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.modules.module import register_module_forward_hook, register_module_forward_pre_hook
from torch.nn.utils.rnn import PackedSequence

from aldvae.compression.resizing import Resizable
from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.compression.slots import LatentSpace, Slot
from aldvae.compression.watch import by_samples
from aldvae.utils.errors import ArgumentError


def check_slots(model: Resizable, forward: Callable[[], Tensor]) -> None:
    """Run `forward`, remove a dimension, run it again with a training step, and put everything back bit for bit.

    Raises `ArgumentError` that names the slot which is wrong; see `Compressor.check`.
    """
    size = model.space.size
    if size <= SMALLEST_DIM:
        raise ArgumentError("forward", f"cannot be checked: of {size} dimensions none can be removed")
    with ExitStack() as stack:
        stack.enter_context(_random_streams(model))
        stack.enter_context(_unchanged(model))
        calls = stack.enter_context(_Calls().listen())
        _trace(model.space, forward)
        model.shrink([size - 1])
        model.notify()
        _train(model, forward, calls)


def _train(model: Resizable, forward: Callable[[], Tensor], calls: _Calls) -> None:
    """Make one training step of the smaller model."""
    calls.running.clear()
    try:
        loss = _loss(forward)
    except Exception as error:
        raise _failure(model.space, calls, error) from error
    kept = [(leaf, leaf.grad) for leaf in _leaves(loss)]
    for leaf, _ in kept:
        leaf.grad = None
    loss.backward()
    for slot, name, _ in model.space.tensors():
        value = getattr(slot.module, name)
        if value.requires_grad and value.grad is None:
            raise ArgumentError(slot.label, f"is not part of the forward pass: its {name} has no gradient of the loss")
    for optimizer in model.optimizers:
        optimizer.step()
    for leaf, gradient in kept:
        leaf.grad = gradient


def _loss(forward: Callable[[], Tensor]) -> Tensor:
    with torch.enable_grad():
        loss = forward()
    if not isinstance(loss, Tensor) or loss.numel() != 1 or not loss.requires_grad:
        raise ArgumentError("forward", "must return the training loss of a batch, one number with a gradient")
    return loss


def _failure(space: LatentSpace, calls: _Calls, error: Exception) -> ArgumentError:
    """Say in which module the forward pass of the smaller model failed."""
    reason = str(error).splitlines()[0] if str(error) else type(error).__name__
    if isinstance(error, ArgumentError):
        return error
    if not calls.running:
        remedy = "a size in your code does not follow, see sizes and on_resize"
        return ArgumentError("forward", f"fails outside of all modules after a removal: {remedy} ({reason})")
    module = calls.running[-1]
    for slot in space.slots:
        if slot.module is module:
            return ArgumentError(slot.label, f"does not fit its input after a removal ({reason})")
    remedy = "list it if it writes or reads the latent vector, else see sizes and on_resize"
    return ArgumentError("forward", f"fails after a removal in {module}, which is no slot: {remedy} ({reason})")


class _Calls:
    """The modules whose forward pass is `running`, innermost last, and the `buffers` that modules had at first."""

    def __init__(self) -> None:
        self.running: list[nn.Module] = []
        self.buffers: dict[nn.Module, dict[str, tuple[Tensor, Tensor]]] = {}

    def _before(self, module: nn.Module, _: object) -> None:
        self.running.append(module)
        if module not in self.buffers:
            named = module.named_buffers(recurse=False)
            self.buffers[module] = {name: (buffer, buffer.detach().clone()) for name, buffer in named}

    def _after(self, module: nn.Module, _: object, __: object) -> None:
        if self.running and self.running[-1] is module:
            self.running.pop()

    @contextmanager
    def listen(self) -> Iterator[_Calls]:
        """Follow the calls of all modules; put back their buffers in the end."""
        handles = [register_module_forward_pre_hook(self._before), register_module_forward_hook(self._after)]
        try:
            yield self
        finally:
            for handle in handles:
                handle.remove()
            for module, buffers in self.buffers.items():
                for name, (buffer, value) in buffers.items():
                    with torch.no_grad():
                        buffer.copy_(value)
                    setattr(module, name, buffer)


@contextmanager
def _unchanged(model: Resizable) -> Iterator[None]:
    """Put back parameters and buffers of the slots, what the optimisers hold, gradients, and sizes, in the end."""
    space, size = model.space, model.space.size
    tensors = [(slot.module, name, getattr(slot.module, name)) for slot, name, _ in space.tensors()]
    held = [p for optimizer in model.optimizers for group in optimizer.param_groups for p in group["params"]]
    values = {value: value.detach().clone() for value in [*(value for _, _, value in tensors), *held]}
    gradients = {value: value.grad for value in values}
    flags = {p: p.requires_grad for layer in space.layers for p in layer.parameters()}
    groups = [[dict(group, params=list(group["params"])) for group in o.param_groups] for o in model.optimizers]
    states = [{p: _copies(state) for p, state in optimizer.state.items()} for optimizer in model.optimizers]
    try:
        yield
    finally:
        for module, name, value in tensors:
            setattr(module, name, value)
        for value, copy in values.items():
            with torch.no_grad():
                value.copy_(copy)
            value.grad = gradients[value]
        for parameter, flag in flags.items():
            parameter.requires_grad_(flag)
        for optimizer, saved, state in zip(model.optimizers, groups, states, strict=True):
            for group, before in zip(optimizer.param_groups, saved, strict=True):
                group.update(before)
            optimizer.state.clear()
            optimizer.state.update(state)
        if space.size != size:
            space.set_size(space.size, size)
            model.notify()


def _copies(state: dict[str, object]) -> dict[str, object]:
    return {name: value.clone() if isinstance(value, Tensor) else value for name, value in state.items()}


@contextmanager
def _random_streams(model: Resizable) -> Iterator[None]:
    """Put back the random streams of torch, numpy and Python in the end."""
    devices = {p.device.index for p in model.space.parameters if p.device.type == "cuda"}
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - the user's stream, not one of ours
    try:
        with torch.random.fork_rng(devices=[index for index in devices if index is not None]):
            yield
    finally:
        random.setstate(python)
        np.random.set_state(numpy)  # noqa: NPY002


def _leaves(loss: Tensor) -> list[Tensor]:
    """Return the tensors that a backward pass from `loss` gives gradients."""
    found: dict[object, Tensor] = {}
    seen, stack = set(), [loss.grad_fn]
    while stack:
        node = stack.pop()
        if node is None or node in seen:
            continue
        seen.add(node)
        if (leaf := getattr(node, "variable", None)) is not None:
            found[node] = leaf
        stack += [following for following, _ in node.next_functions]
    return list(found.values())


def _trace(space: LatentSpace, forward: Callable[[], Tensor]) -> None:
    """Check by gradients that the last dimension is read and normalised where the slots say that it is written."""
    written: dict[Slot, list[Tensor]] = {head: [] for head in space.heads}
    read: dict[Slot, list[Tensor]] = {slot: [] for slot in (*space.readers, *space.along) if slot.attribute}
    with ExitStack() as stack:
        for slot, outputs in written.items():
            handle = slot.module.register_forward_hook(lambda _, __, out, outputs=outputs: outputs.append(out))
            stack.callback(handle.remove)
        for slot, inputs in read.items():
            handle = slot.module.register_forward_pre_hook(lambda _, args, inputs=inputs: inputs.append(args[0]))
            stack.callback(handle.remove)
        _loss(forward)
    for slot, tensors in (*written.items(), *read.items()):
        if not tensors:
            raise ArgumentError(slot.label, "is not called in the forward pass; check an uncompiled model")
    for slot, inputs in read.items():
        _check_reader(slot, inputs, written, space.size)


def _check_reader(
    slot: Slot, inputs: Sequence[Tensor | PackedSequence], written: dict[Slot, list[Tensor]], size: int
) -> None:
    position = slot.start + size - 1
    sources: dict[Slot, set[int]] = {}
    for value in inputs:  # Those of some calls may be samples from the prior.
        samples = by_samples(slot.module, value.data if isinstance(value, PackedSequence) else value)
        sources = {head: _sources(samples[..., position], head, outputs) for head, outputs in written.items()}
        if any(sources.values()):
            break
    else:
        problem = f"does not read the latent vector at its input {position}, where its last dimension should be"
        raise ArgumentError(slot.label, f"{problem}; check start")
    for head, found in sources.items():
        positions = head.positions(size)
        expected = set(positions[-1].tolist())
        if expected <= found or found <= expected:
            continue
        dimensions = {j for j, row in enumerate(positions.tolist()) if found & set(row)}
        if len(dimensions) == 1:
            problem = f"reads dimension {dimensions.pop()} of the latent vector at its input {position}, not {size - 1}"
            raise ArgumentError(slot.label, f"{problem}; check start")
        problem = f"writes one dimension at its outputs {sorted(found)}, which its layout counts as several"
        raise ArgumentError(head.label, f"{problem}; check layout and latent_dim")


def _sources(value: Tensor, head: Slot, outputs: list[Tensor]) -> set[int]:
    """Return the outputs of `head` on which `value` depends."""
    if not value.requires_grad:
        return set()
    # Not the sum alone: that of a batch-normalised dimension does not depend on anything.
    total = (value * torch.rand_like(value)).sum()
    gradients = torch.autograd.grad(total, outputs, retain_graph=True, allow_unused=True)
    found: set[int] = set()
    for gradient in gradients:
        if gradient is not None:
            found |= set(by_samples(head.module, gradient).flatten(0, -2).any(0).nonzero()[:, 0].tolist())
    return found
