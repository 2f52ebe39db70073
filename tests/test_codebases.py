"""Layers of the kinds that VAEs of other people have; docs/integrations.md says which code has which."""

from __future__ import annotations

import copy
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aldvae

SIZE, HIDDEN, BATCH = 6, 8, 5


class Model(nn.Module):
    """What the tests need to know of a VAE: `slots` are arguments of `Compressor`, z is (B, n_z, ...)."""

    slots: dict[str, Any]

    def example(self) -> Tensor:
        return torch.randn(BATCH, 10)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        raise NotImplementedError

    def loss(self, x: Tensor) -> Any:
        mu, log_var = self.encode(x)
        z = mu + torch.randn_like(mu) * (0.5 * log_var).exp()
        return self.decode(z, x).square().mean() + 0.5 * (mu.square() + log_var.exp() - 1 - log_var).mean()

    def optimizers(self) -> list[torch.optim.Optimizer]:
        return [torch.optim.Adam(self.parameters(), lr=0.01)]


class PyTorchVAE(Model):
    """Convolutions, flattened; two linear heads, a linear reader."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Sequential(nn.Conv2d(1, 4, 3, 2, 1), nn.BatchNorm2d(4), nn.LeakyReLU())
        self.fc_mu, self.fc_var = nn.Linear(4 * 16, SIZE), nn.Linear(4 * 16, SIZE)
        self.decoder_input = nn.Linear(SIZE, 4 * 16)
        self.decoder = nn.ConvTranspose2d(4, 1, 3, 2, 1, output_padding=1)
        self.slots = {"heads": [self.fc_mu, self.fc_var], "readers": [self.decoder_input]}

    def example(self) -> Tensor:
        return torch.randn(BATCH, 1, 8, 8)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder(x).flatten(1)
        return self.fc_mu(hidden), self.fc_var(hidden)

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.decoder_input(z).view(-1, 4, 4, 4)) - x
        return decoded


class Averaged(PyTorchVAE):
    """The same layers with a loss that averages over pixels and dimensions (Lightning Bolts)."""

    def __init__(self) -> None:
        super().__init__()
        self.slots["units"] = aldvae.Units(values=64, mean_kl=True)


class AutoencoderKL(Model):
    """Maps: one 1x1 convolution writes means, then log-variances, another reads z."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder, self.decoder = nn.Conv2d(3, 2 * SIZE, 3, 2, 1), nn.Conv2d(SIZE, 3, 3, 1, 1)
        self.quant_conv, self.post_quant_conv = nn.Conv2d(2 * SIZE, 2 * SIZE, 1), nn.Conv2d(SIZE, SIZE, 1)
        self.slots = {"heads": [aldvae.Head(self.quant_conv, "blocks")], "readers": [self.post_quant_conv]}

    def example(self) -> Tensor:
        return torch.randn(BATCH, 3, 8, 8)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        mu, log_var = self.quant_conv(self.encoder(x)).chunk(2, dim=1)
        return mu, log_var

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(self.post_quant_conv(z)) - x[..., ::2, ::2]
        return decoded


class DisentanglingVAE(Model):
    """One linear head, in which mean and log-variance of each dimension lie side by side; a size in the code."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = SIZE
        self.body, self.mu_logvar_gen = nn.Linear(10, HIDDEN), nn.Linear(HIDDEN, 2 * SIZE)
        self.lin1, self.lin2 = nn.Linear(SIZE, HIDDEN), nn.Linear(HIDDEN, 10)
        self.slots = {
            "heads": [aldvae.Head(self.mu_logvar_gen, "interleaved")],
            "readers": [self.lin1],
            "sizes": [(self, "latent_dim")],
        }

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        outputs = self.mu_logvar_gen(torch.relu(self.body(x)))
        mu, log_var = outputs.view(-1, self.latent_dim, 2).unbind(-1)
        return mu, log_var

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        decoded: Tensor = self.lin2(torch.relu(self.lin1(z))) - x
        return decoded


class ConditionalVAE(Model):
    """Labels before z; or after it, as covariates in scvi-tools."""

    def __init__(self, *, labels_first: bool = True) -> None:
        super().__init__()
        self.labels_first = labels_first
        self.body, self.mu, self.log_var = nn.Linear(10, HIDDEN), nn.Linear(HIDDEN, SIZE), nn.Linear(HIDDEN, SIZE)
        self.decoder = nn.Sequential(nn.Linear(SIZE + 3, HIDDEN), nn.ReLU(), nn.Linear(HIDDEN, 10))
        start = 3 if labels_first else 0
        readers = [aldvae.Reader(self.decoder[0], start=start)]
        self.slots = {"heads": [self.mu, self.log_var], "readers": readers, "latent_dim": SIZE}

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.body(x))
        return self.mu(hidden), self.log_var(hidden)

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        labels = F.one_hot(torch.arange(BATCH) % 3, 3).float()
        decoded: Tensor = self.decoder(torch.cat([labels, z] if self.labels_first else [z, labels], 1)) - x
        return decoded


class CovariatesLast(ConditionalVAE):
    def __init__(self) -> None:
        super().__init__(labels_first=False)


class Moses(Model):
    """A linear layer makes a GRU's first state from z, and the GRU reads a letter's embedding and z at each step."""

    def __init__(self) -> None:
        super().__init__()
        letters, embedded = 7, 4
        self.x_emb = nn.Embedding(letters, embedded)
        self.encoder_rnn = nn.GRU(embedded, HIDDEN, batch_first=True)
        self.q_mu, self.q_logvar = nn.Linear(HIDDEN, SIZE), nn.Linear(HIDDEN, SIZE)
        self.decoder_rnn = nn.GRU(embedded + SIZE, HIDDEN, num_layers=2, batch_first=True)
        self.decoder_lat, self.decoder_fc = nn.Linear(SIZE, HIDDEN), nn.Linear(HIDDEN, letters)
        self.slots = {
            "heads": [self.q_mu, self.q_logvar],
            "readers": [self.decoder_lat, aldvae.Reader(self.decoder_rnn, start=embedded)],
            "latent_dim": SIZE,
        }

    def example(self) -> Tensor:
        return torch.randint(7, (BATCH, 9))

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder_rnn(self.x_emb(x))[1][-1]
        return self.q_mu(hidden), self.q_logvar(hidden)

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        inputs = torch.cat([self.x_emb(x), z.unsqueeze(1).expand(-1, x.shape[1], -1)], -1)
        packed = nn.utils.rnn.pack_padded_sequence(inputs, torch.tensor([9, 8, 8, 6, 4]), batch_first=True)
        outputs, _ = self.decoder_rnn(packed, self.decoder_lat(z).unsqueeze(0).repeat(2, 1, 1))
        decoded: Tensor = self.decoder_fc(nn.utils.rnn.pad_packed_sequence(outputs, batch_first=True)[0])
        return decoded


class Vame(Model):
    """GRUs in both directions read z at each step, in two decoders; their first states come from z too."""

    def __init__(self) -> None:
        super().__init__()
        self.encoder_rnn = nn.GRU(3, HIDDEN, batch_first=True, bidirectional=True)
        self.hidden_to_mean, self.hidden_to_logvar = nn.Linear(2 * HIDDEN, SIZE), nn.Linear(2 * HIDDEN, SIZE)
        self.states = nn.ModuleList(nn.Linear(SIZE, 2 * HIDDEN) for _ in range(2))
        self.rnns = nn.ModuleList(nn.GRU(SIZE, HIDDEN, batch_first=True, bidirectional=True) for _ in range(2))
        self.out = nn.Linear(2 * HIDDEN, 3)
        heads = [self.hidden_to_mean, self.hidden_to_logvar]
        self.slots = {"heads": heads, "readers": [*self.states, *self.rnns]}

    def example(self) -> Tensor:
        return torch.randn(BATCH, 4, 3)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = self.encoder_rnn(x)[1].transpose(0, 1).flatten(1)
        return self.hidden_to_mean(hidden), self.hidden_to_logvar(hidden)

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        inputs, decoded = z.unsqueeze(1).expand(-1, 4, -1), []
        for state, rnn in zip(self.states, self.rnns, strict=True):
            decoded.append(self.out(rnn(inputs, state(z).view(2, len(z), HIDDEN))[0]) - x)
        return torch.cat(decoded)


class EngiOpt(Model):
    """A transposed 3-D convolution reads z as a map of one voxel; encoder and decoder have an optimiser each."""

    def __init__(self) -> None:
        super().__init__()
        self.body, self.mu, self.log_var = nn.Linear(8, HIDDEN), nn.Linear(HIDDEN, SIZE), nn.Linear(HIDDEN, SIZE)
        self.decoder = nn.Sequential(nn.ConvTranspose3d(SIZE, 4, 2), nn.ReLU(), nn.Conv3d(4, 1, 1))
        self.slots = {"heads": [self.mu, self.log_var], "readers": [self.decoder[0]]}

    def example(self) -> Tensor:
        return torch.randn(BATCH, 1, 2, 2, 2)

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.body(x.flatten(1)))
        return self.mu(hidden), self.log_var(hidden)

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        decoded: Tensor = self.decoder(z[:, :, None, None, None]) - x
        return decoded

    def optimizers(self) -> list[torch.optim.Optimizer]:
        encoder = [p for layer in (self.body, self.mu, self.log_var) for p in layer.parameters()]
        return [torch.optim.Adam(encoder, lr=0.01), torch.optim.Adam(self.decoder.parameters(), lr=0.02)]


class TwoLatents(Model):
    """Two latent vectors, of which the tests cut the second, read by a layer without bias (JT-VAE)."""

    def __init__(self) -> None:
        super().__init__()
        self.body = nn.Linear(10, HIDDEN)
        self.T_mean, self.T_var, self.G_mean, self.G_var = (nn.Linear(HIDDEN, SIZE) for _ in range(4))
        self.W, self.A_assm = nn.Linear(SIZE, 10), nn.Linear(SIZE, 10, bias=False)
        self.slots = {"heads": [self.G_mean, self.G_var], "readers": [self.A_assm]}

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        hidden = torch.relu(self.body(x))
        return self.G_mean(hidden), -self.G_var(hidden).abs()

    def decode(self, z: Tensor, x: Tensor) -> Tensor:
        hidden = torch.relu(self.body(x))
        tree = self.T_mean(hidden) + 0.1 * self.T_var(hidden)
        decoded: Tensor = self.W(tree) + self.A_assm(z) - x
        return decoded


MODELS: list[type[Model]] = [
    PyTorchVAE,
    Averaged,
    AutoencoderKL,
    DisentanglingVAE,
    ConditionalVAE,
    CovariatesLast,
    Moses,
    Vame,
    EngiOpt,
    TwoLatents,
]


def train(model: Model, optimizers: list[torch.optim.Optimizer], x: Tensor, steps: int = 2) -> None:
    for _ in range(steps):
        for optimizer in optimizers:
            optimizer.zero_grad()
        model.loss(x).backward()
        for optimizer in optimizers:
            optimizer.step()


def of_moments(model: Model, optimizers: list[torch.optim.Optimizer], name: str) -> Model:
    """Return a copy of `model` whose weights are what Adam keeps for them as `name`."""
    twin = copy.deepcopy(model)
    states = {parameter: state for optimizer in optimizers for parameter, state in optimizer.state.items()}
    for parameter, own in zip(model.parameters(), twin.parameters(), strict=True):
        own.data = states[parameter][name].clone()
    return twin


@pytest.mark.parametrize("kind", MODELS)
def test_a_model_of_this_kind_is_checked_and_cut(kind: type[Model]) -> None:
    torch.manual_seed(0)
    model = kind()
    x, optimizers = model.example(), model.optimizers()
    compressor = aldvae.Compressor(
        **model.slots, optimizer=optimizers, rule=aldvae.PaperRule(patience=1, step=2), seed=1
    )
    train(model, optimizers, x)
    compressor.check(lambda: model.loss(x))

    model.eval()
    before = model.encode(x)
    z = torch.randn_like(before[0])
    twins = {name: of_moments(model, optimizers, name) for name in ("exp_avg", "exp_avg_sq")}
    uncut = copy.deepcopy(model)
    step = compressor.step(recon_loss=1.0, silhouette=0.1, fid_recon=1.0, fid_gen=1.0)
    removed = list(step.removed)
    keep = torch.tensor([j for j in range(SIZE) if j not in removed])
    assert len(keep) == compressor.latent_dim == SIZE - 2

    for kept, old in zip(model.encode(x), before, strict=True):
        torch.testing.assert_close(kept, old[:, keep], rtol=1e-5, atol=1e-6)
    expected_output = uncut.decode(z.index_fill(1, torch.tensor(removed), 0), x)
    torch.testing.assert_close(model.decode(z[:, keep], x), expected_output, rtol=1e-5, atol=1e-6)
    for name, twin in twins.items():
        slots = {key: value for key, value in twin.slots.items() if key not in ("sizes", "units")}
        aldvae.remove_neurons(**slots, remove=removed)
        states = {p: state for optimizer in optimizers for p, state in optimizer.state.items()}
        for parameter, expected in zip(model.parameters(), twin.parameters(), strict=True):
            assert torch.equal(states[parameter][name], expected)

    model.train()
    parameters = [p.detach().clone() for p in model.parameters()]
    held = {id(p) for optimizer in optimizers for group in optimizer.param_groups for p in group["params"]}
    assert held == {id(p) for p in model.parameters()}
    train(model, optimizers, x, steps=1)
    assert not any(torch.equal(p, old) for p, old in zip(model.parameters(), parameters, strict=True))


def test_two_latent_vectors_have_a_compressor_each() -> None:
    torch.manual_seed(0)
    model = TwoLatents()
    x, optimizers = model.example(), model.optimizers()
    rule = aldvae.PaperRule(patience=1, step=1, slow_step=1)
    trees = {"heads": [model.T_mean, model.T_var], "readers": [model.W]}
    compressors = [aldvae.Compressor(**slots, optimizer=optimizers, rule=rule) for slots in (trees, model.slots)]
    for compressor in compressors:
        train(model, optimizers, x)
        compressor.check(lambda: model.loss(x))
        compressor.step(recon_loss=1.0, silhouette=0.1, fid_recon=1.0, fid_gen=1.0)
    train(model, optimizers, x)
    assert model.W.in_features == model.A_assm.in_features == model.T_var.out_features == SIZE - 1


def test_an_interleaved_head_is_never_cut_as_two_blocks_without_a_word() -> None:
    model = DisentanglingVAE()
    x, readers = model.example(), model.slots["readers"]
    with pytest.raises(aldvae.ArgumentError, match=r"heads\[0\] has 12 outputs .* give its layout"):
        aldvae.Compressor(heads=[model.mu_logvar_gen], readers=readers, optimizer=None)
    with pytest.raises(aldvae.ArgumentError, match=r"heads\[0\] has 12 outputs .* give its layout"):
        aldvae.remove_neurons([model.mu_logvar_gen], readers, [0])
    compressor = aldvae.Compressor(
        heads=[aldvae.Head(model.mu_logvar_gen, "blocks")],
        readers=readers,
        sizes=[(model, "latent_dim")],
        optimizer=None,
    )
    with pytest.raises(aldvae.ArgumentError, match=r"writes one dimension at its outputs \[10, 11\], .* check layout"):
        compressor.check(lambda: model.loss(x))


def test_a_joint_head_as_wide_as_a_reader_with_labels_is_never_cut_without_a_word() -> None:
    """10 means and 10 log-variances; 10 dimensions and 10 labels."""
    head, reader = nn.Linear(4, 20), nn.Linear(20, 4)
    for slots in ({"heads": [head]}, {"heads": [aldvae.Head(head)]}, {"heads": [aldvae.Head(head, "blocks")]}):
        with pytest.raises(aldvae.ArgumentError, match="latent_dim must be given"):
            aldvae.Compressor(**slots, readers=[reader], optimizer=None)
        with pytest.raises(aldvae.ArgumentError, match="latent_dim must be given"):
            aldvae.remove_neurons(slots["heads"], [reader], [0])
    joint: dict[str, Any] = {"heads": [aldvae.Head(head, "blocks")], "latent_dim": 10, "optimizer": None}
    with pytest.raises(
        aldvae.ArgumentError, match=r"readers\[0\] has 20 inputs .* say where .*Reader\(module, start=0"
    ):
        aldvae.Compressor(**joint, readers=[reader])
    compressor = aldvae.Compressor(**joint, readers=[aldvae.Reader(reader, start=10)])
    assert compressor.latent_dim == 10
