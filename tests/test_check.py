"""`Compressor.check` tells which slot is wrong, and leaves everything as it was."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aldvae
from aldvae.utils.errors import ArgumentError

SIZE, LABELS = 6, 3


class Conditional(nn.Module):
    """A conditional VAE with everything a slot can be: labels before z in one reader, after it in another."""

    def __init__(self, layout: str = "blocks") -> None:
        super().__init__()
        self.layout, self.latent_dim = layout, SIZE
        self.encoder = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU())
        self.head = nn.Linear(16, 2 * SIZE)
        self.norm = nn.BatchNorm1d(SIZE)
        self.prior = nn.Parameter(torch.zeros(SIZE))
        self.decoder = nn.Sequential(nn.Linear(LABELS + SIZE, 16), nn.ReLU(), nn.Dropout(), nn.Linear(16, 8))
        self.classifier = nn.Linear(SIZE + LABELS, 2)

    def loss(self, x: Tensor) -> Any:
        outputs = self.head(self.encoder(x))
        if self.layout == "blocks":
            mu, log_var = outputs.chunk(2, dim=1)
        else:
            mu, log_var = outputs.view(len(x), self.latent_dim, 2).unbind(2)
        z = self.norm(mu + torch.randn_like(mu) * (0.5 * log_var).exp())
        labels = F.one_hot(torch.arange(len(x)) % LABELS, LABELS).float()
        decoded = self.decoder(torch.cat([labels, z], 1))
        kl = ((mu - self.prior).square() + log_var.exp() - log_var).sum(1).mean()
        loss: Tensor = (decoded - x).square().sum(1).mean() + kl
        return loss + self.classifier(torch.cat([z, labels], 1)).square().mean()


def slots_of(model: Conditional) -> dict[str, Any]:
    return {
        "heads": [aldvae.Head(model.head, layout=model.layout)],  # type: ignore[arg-type]
        "readers": [aldvae.Reader(model.decoder[0], start=LABELS), aldvae.Reader(model.classifier, start=0)],
        "along": [model.norm, (model, "prior")],
        "latent_dim": SIZE,
        "sizes": [(model, "latent_dim")],
    }


@pytest.mark.parametrize("layout", ["blocks", "interleaved"])
def test_a_check_of_correct_slots_leaves_everything_as_it_was_bit_for_bit(layout: str) -> None:
    torch.manual_seed(0)
    model, x = Conditional(layout), torch.randn(12, 8)
    optimizer = torch.optim.Adam(model.parameters(), amsgrad=True)
    sizes: list[int] = []
    compressor = aldvae.Compressor(**slots_of(model), optimizer=optimizer, on_resize=sizes.append)
    model.loss(x).backward()
    optimizer.step()
    parameters, gradients = list(model.parameters()), [p.grad for p in model.parameters()]
    before = copy.deepcopy((model.state_dict(), optimizer.state_dict(), gradients))
    buffers = dict(model.named_buffers())
    streams = torch.get_rng_state(), random.getstate(), np.random.get_state(legacy=False)["state"]["key"].tolist()  # noqa: NPY002

    def forward() -> Any:
        random.random(), np.random.rand()  # noqa: NPY002 - as a user's augmentation does
        return model.loss(x)

    compressor.check(forward)

    assert sizes == [SIZE - 1, SIZE]
    assert model.latent_dim == model.norm.num_features == compressor.latent_dim == SIZE
    assert all(new is old for new, old in zip(model.parameters(), parameters, strict=True))
    assert all(p.grad is old for p, old in zip(model.parameters(), gradients, strict=True))
    assert all(buffer is buffers[name] for name, buffer in model.named_buffers())
    after = model.state_dict(), optimizer.state_dict(), gradients
    torch.testing.assert_close(after, before, rtol=0, atol=0)
    assert torch.equal(torch.get_rng_state(), streams[0])
    assert random.getstate() == streams[1]
    assert np.random.get_state(legacy=False)["state"]["key"].tolist() == streams[2]  # noqa: NPY002


def wrong(change: Callable[[Conditional, dict[str, Any]], None], layout: str = "blocks") -> str:
    """Return what `check` complains of if `change` spoils the slots; nothing is changed."""
    torch.manual_seed(0)
    model, x = Conditional(layout), torch.randn(12, 8)
    slots = slots_of(model)
    change(model, slots)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    compressor = aldvae.Compressor(**slots, optimizer=optimizer)
    before = copy.deepcopy(model.state_dict())
    with pytest.raises(ArgumentError) as caught:
        compressor.check(lambda: model.loss(x))
    torch.testing.assert_close(model.state_dict(), before, rtol=0, atol=0)
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)


def test_a_check_tells_which_slot_is_wrong() -> None:
    def start(model: Conditional, slots: dict[str, Any]) -> None:
        slots["readers"][0] = aldvae.Reader(model.decoder[0], start=1)

    def layout(model: Conditional, slots: dict[str, Any]) -> None:
        slots["heads"] = [aldvae.Head(model.head, layout="interleaved")]

    def other_end(model: Conditional, slots: dict[str, Any]) -> None:
        slots["readers"][1] = aldvae.Reader(model.classifier, start=LABELS)

    def missing_reader(_: Conditional, slots: dict[str, Any]) -> None:
        slots["readers"].pop()

    def missing_norm(_: Conditional, slots: dict[str, Any]) -> None:
        slots["along"] = slots["along"][1:]

    def missing_prior(_: Conditional, slots: dict[str, Any]) -> None:
        slots["along"] = slots["along"][:1]

    def not_called(_: Conditional, slots: dict[str, Any]) -> None:
        slots["readers"].append(nn.Linear(SIZE, 2).requires_grad_(False))

    def missing_size(_: Conditional, slots: dict[str, Any]) -> None:
        del slots["sizes"]

    assert "readers[0] reads dimension 3 of the latent vector at its input 6, not 5; check start" in wrong(start)
    assert "heads[0] writes one dimension at its outputs [5, 11]" in wrong(layout)
    assert "readers[1] does not read the latent vector at its input 8" in wrong(other_end)
    assert "fails after a removal in Linear(in_features=9, out_features=2, bias=True), which" in wrong(missing_reader)
    assert "fails after a removal in BatchNorm1d(6" in wrong(missing_norm)
    assert "fails outside of all modules after a removal: a size in your code" in wrong(missing_prior)
    assert "readers[2] is not called in the forward pass" in wrong(not_called)
    assert "see sizes and on_resize" in wrong(missing_size, "interleaved")


def test_a_joint_head_that_passes_for_a_plain_one_is_found() -> None:
    """A head for 2 x 10 values and a reader of 10 and 10 labels agree on 20."""
    head, reader = nn.Linear(4, 20), nn.Linear(20, 4)

    def forward() -> Tensor:
        mu, log_var = head(torch.randn(5, 4)).chunk(2, dim=1)
        z = torch.cat([mu + torch.randn(5, 10) * log_var.exp(), torch.ones(5, 10)], 1)
        loss: Tensor = reader(z).square().mean()
        return loss

    with pytest.raises(
        ArgumentError, match=r"latent_dim must be given: one head has 20 outputs, as many as the readers"
    ):
        aldvae.Compressor(heads=[head], readers=[reader], optimizer=None)
    compressor = aldvae.Compressor(heads=[head], readers=[reader], latent_dim=20, optimizer=None)
    with pytest.raises(ArgumentError, match=r"readers\[0\] does not read the latent vector at its input 19"):
        compressor.check(forward)
    assert head.out_features == 20


def test_a_check_bears_with_a_decoded_sample_from_the_prior() -> None:
    mu, log_var, reader = nn.Linear(4, 3), nn.Linear(4, 3), nn.Linear(3, 4)
    compressor = aldvae.Compressor(heads=[mu, log_var], readers=[reader], optimizer=None)

    def forward() -> Tensor:
        x, n = torch.randn(5, 4), mu.out_features
        generated = reader(torch.randn(5, n))
        loss: Tensor = (generated + reader(mu(x) + log_var(x).exp())).square().mean()
        return loss

    compressor.check(forward)


def test_a_check_needs_a_loss_and_a_dimension_to_spare() -> None:
    head, reader = nn.Linear(4, 3), nn.Linear(3, 4)
    compressor = aldvae.Compressor(heads=[head], readers=[reader], latent_dim=3, optimizer=None)
    with pytest.raises(ArgumentError, match="forward must return the training loss"):
        compressor.check(lambda: reader(head(torch.randn(2, 4))))
    small = aldvae.Compressor(heads=[nn.Linear(4, 2)], readers=[nn.Linear(2, 4)], latent_dim=2, optimizer=None)
    with pytest.raises(ArgumentError, match="forward cannot be checked"):
        small.check(lambda: torch.zeros(()))


def test_a_check_works_on_maps_and_sequences() -> None:
    convolution, decoder = nn.Conv2d(3, 8, 1), nn.ConvTranspose2d(4, 3, 2, stride=2)
    recurrent = nn.GRU(4, 5, batch_first=True, bidirectional=True)
    parameters = [*convolution.parameters(), *decoder.parameters(), *recurrent.parameters()]
    compressor = aldvae.Compressor(
        heads=[aldvae.Head(convolution, layout="blocks")],
        readers=[decoder, recurrent],
        optimizer=torch.optim.Adam(parameters),
    )

    def forward() -> Tensor:
        mu, log_var = convolution(torch.randn(2, 3, 4, 4)).chunk(2, dim=1)
        z = mu + torch.randn_like(mu) * log_var.exp()
        packed = nn.utils.rnn.pack_padded_sequence(z.flatten(2).mT, torch.tensor([16, 9]), batch_first=True)
        loss: Tensor = decoder(z).square().mean() + recurrent(packed)[0].data.square().mean()
        return loss

    compressor.check(forward)
    assert (convolution.out_channels, decoder.in_channels, recurrent.input_size) == (8, 4, 4)
