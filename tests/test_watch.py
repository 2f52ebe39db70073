"""The posterior taken from the heads by hooks, losses in other units, and slots within a whole compression."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import aldvae
from aldvae.compression.consolidation import consolidate
from aldvae.compression.principal_directions import LatentStatistics
from aldvae.compression.slots import Layout
from aldvae.utils.errors import ArgumentError
from tests.test_snapshot import metrics_of

SCALES: dict[str, Callable[[Tensor], Tensor]] = {
    "log_var": lambda output: (0.5 * output).exp(),
    "log_std": lambda output: output.exp(),
    "softplus": F.softplus,
}


class Recorder(aldvae.Rule[aldvae.Decision]):
    """Keeps what it is given, decides nothing."""

    def __init__(self) -> None:
        self.seen: list[tuple[dict[str, float], Any]] = []

    def init(self) -> aldvae.Decision:
        return aldvae.Decision(0, 2)

    def restore(self, stored: Any) -> aldvae.Decision:
        return aldvae.Decision(**stored)

    def adapt(self, state: Any, epoch: int, latent_dim: int, metrics: Any, kl: Any = None) -> Any:  # noqa: ARG002
        self.seen.append((dict(metrics), kl))
        return state, None


def kl_of(mu: Tensor, std: Tensor) -> Tensor:
    """Return torch's own KL divergence to the standard normal."""
    prior = torch.distributions.Normal(torch.zeros_like(mu), 1.0)
    divergence: Tensor = torch.distributions.kl_divergence(torch.distributions.Normal(mu, std), prior)
    return divergence


@pytest.mark.parametrize("layout", [None, "blocks", "interleaved"])
@pytest.mark.parametrize("scale", [*SCALES, "own"])
def test_a_watched_validation_tells_the_kl_divergence_of_each_dimension(scale: str, layout: Layout | None) -> None:
    torch.manual_seed(0)
    own: Any = SCALES.get(scale, lambda output: output.sigmoid() + 0.1)
    joint, mu, second = nn.Linear(3, 10), nn.Linear(3, 5), nn.Linear(3, 5)
    heads: list[Any] = [aldvae.Head(joint, layout)] if layout else [mu, second]
    rule = Recorder()
    compressor = aldvae.Compressor(heads=heads, readers=[nn.Linear(5, 3)], optimizer=None, rule=rule)
    x, parts = torch.randn(50, 3), []
    with compressor.watch(own if scale == "own" else scale):  # type: ignore[arg-type]
        for batch in x.split(20):
            if layout:
                outputs = joint(batch)
                pair = outputs.chunk(2, 1) if layout == "blocks" else outputs.view(-1, 5, 2).unbind(2)
            else:  # The order of the two calls does not matter.
                scales = second(batch)
                pair = mu(batch), scales
            parts.append(kl_of(pair[0], own(pair[1])))
    compressor.step(recon_loss=3.0)
    (metrics, kl) = rule.seen[-1]
    torch.testing.assert_close(torch.tensor(kl), torch.cat(parts).mean(0), rtol=1e-4, atol=1e-6)
    assert metrics == {"recon_loss": 3.0}
    # It holds for one step, and what the caller gives wins.
    compressor.step(recon_loss=3.0)
    assert rule.seen[-1][1] is None
    with compressor.watch():
        joint(x), mu(x), second(x)
    compressor.step(recon_loss=3.0, kl=torch.ones(5))
    assert rule.seen[-1][1] == [1.0] * 5
    assert not joint._forward_hooks
    assert not mu._forward_hooks


def test_the_kl_divergence_of_a_map_is_summed_over_its_positions() -> None:
    torch.manual_seed(0)
    head, rule = nn.Conv2d(3, 8, 1), Recorder()
    heads = [aldvae.Head(head, "blocks")]
    compressor = aldvae.Compressor(heads=heads, readers=[nn.Conv2d(4, 3, 1)], optimizer=None, rule=rule)
    with compressor.watch("log_std"):
        mu, log_std = head(torch.randn(6, 3, 2, 2)).chunk(2, 1)
    compressor.step()
    torch.testing.assert_close(torch.tensor(rule.seen[0][1]), kl_of(mu, log_std.exp()).sum((2, 3)).mean(0))


def test_a_watch_that_sees_nothing_or_cannot_is_refused() -> None:
    mu, log_var, reader = nn.Linear(3, 5), nn.Linear(3, 5), nn.Linear(5, 3)
    optimizer = torch.optim.Adam([p for layer in (mu, log_var, reader) for p in layer.parameters()])
    layers: dict[str, Any] = {"heads": [mu, log_var], "readers": [reader], "optimizer": optimizer}
    compressor = aldvae.Compressor(**layers)
    with pytest.raises(ArgumentError, match="heads did not run, or not equally often"), compressor.watch():
        reader(torch.zeros(2, 5))
    with pytest.raises(ArgumentError, match="heads did not run, or not equally often"), compressor.watch():
        mu(torch.zeros(2, 3))
    with pytest.raises(ArgumentError, match="scale log_varr is not known"), compressor.watch("log_varr"):  # type: ignore[arg-type]
        pass
    with pytest.raises(ZeroDivisionError), compressor.watch():
        raise ZeroDivisionError
    alone = aldvae.Compressor(heads=[mu], readers=[reader], latent_dim=5, optimizer=None)
    with pytest.raises(ArgumentError, match="heads must be two, means and scales"), alone.watch():
        pass
    rule = aldvae.ConsolidatingRule(epochs=20)
    consolidating = aldvae.Compressor(**layers, rule=rule)
    with pytest.raises(ArgumentError, match="scale must be log_var or log_std with ConsolidatingRule"):
        consolidating.watch("softplus").__enter__()
    with pytest.raises(ArgumentError, match=r"along\[0\] has entries .* use RobustRule"):
        aldvae.Compressor(**layers, rule=rule, along=[nn.BatchNorm1d(5)])


def toy_data() -> Tensor:
    random = torch.Generator().manual_seed(3)
    x = torch.randn(600, 3, generator=random) @ torch.randn(3, 20, generator=random)
    return x + 0.1 * torch.randn(x.shape, generator=random)


def compress(*, scale: str, layout: Layout | None, reader: str, epochs: int = 30) -> tuple[int, int]:
    """Train a VAE on data of 3 dimensions, watched; return the answer and the final size."""
    torch.manual_seed(0)
    x, n = toy_data(), 12
    body = nn.Sequential(nn.Linear(20, 64), nn.ReLU())
    heads: list[nn.Module] = [nn.Linear(64, 2 * n)] if layout else [nn.Linear(64, n), nn.Linear(64, n)]
    read = nn.GRU(n + 2, 64, batch_first=True) if reader == "gru" else nn.Linear(n + 2, 64)
    out = nn.Linear(64, 20)
    parameters = [p for layer in (body, *heads, read, out) for p in layer.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=3e-3)
    sizes: list[int] = []
    compressor = aldvae.Compressor(
        heads=[aldvae.Head(head, layout) for head in heads],
        readers=[aldvae.Reader(read, start=1)],
        latent_dim=n,
        optimizer=optimizer,
        on_resize=sizes.append,
        rule=aldvae.ConsolidatingRule(),
        epochs=epochs,
    )

    def losses(batch: Tensor) -> tuple[Tensor, Tensor]:
        features = body(batch)
        if layout is None:
            mu, second = (head(features) for head in heads)
        else:
            outputs = heads[0](features)
            size = compressor.latent_dim
            mu, second = outputs.chunk(2, 1) if layout == "blocks" else outputs.view(-1, size, 2).unbind(2)
        std = SCALES[scale](second)
        z = mu + torch.randn_like(mu) * std
        ones = torch.ones(len(z), 1)
        inputs = torch.cat([ones, z, ones], 1)
        hidden = read(inputs[:, None])[0][:, 0] if reader == "gru" else torch.relu(read(inputs))
        return (out(hidden) - batch).square().sum(1).mean() / (2 * 0.3**2), kl_of(mu, std).sum(1).mean()

    for epoch in range(epochs):
        weight = min(1.0, (epoch + 1) / 6)
        for batch in x.split(50):
            recon, kl = losses(batch)
            optimizer.zero_grad()
            (recon + weight * kl).backward()
            optimizer.step()
        with torch.no_grad(), compressor.watch(scale):  # type: ignore[arg-type]
            losses(x)
        compressor.step(beta=weight)
    assert sizes[-1] == compressor.latent_dim
    assert compressor.answer is not None
    assert compressor.answer.n_informative is not None
    return compressor.answer.n_informative, compressor.latent_dim


@pytest.mark.parametrize(
    ("scale", "layout", "reader"),
    [("log_var", None, "linear"), ("log_std", "blocks", "linear"), ("log_std", "interleaved", "linear")],
)
def test_a_watched_loop_with_other_inputs_finds_the_dimensions_of_linear_data(
    scale: str, layout: Layout | None, reader: str
) -> None:
    assert compress(scale=scale, layout=layout, reader=reader) == (3, 3)


def test_a_watched_loop_shrinks_a_recurrent_reader() -> None:
    """A GRU bends what it reads, for which it may use a dimension more than linear data have."""
    informative, size = compress(scale="log_var", layout="interleaved", reader="gru")
    assert 3 <= informative == size <= 4


@pytest.mark.parametrize("layout", [None, "blocks", "interleaved"])
@pytest.mark.parametrize("reader", ["linear", "conv", "transposed", "gru", "lstm cell"])
def test_consolidated_slots_are_the_same_function_of_the_means(reader: str, layout: Layout | None) -> None:
    torch.manual_seed(0)
    size, before_z = 5, 2
    maps = reader in ("conv", "transposed")
    make: Callable[..., nn.Module] = (lambda i, o: nn.Conv2d(i, o, 1)) if maps else nn.Linear
    readers: dict[str, Callable[[int], nn.Module]] = {
        "linear": lambda n: nn.Linear(n, 4),
        "conv": lambda n: nn.Conv2d(n, 4, 1),
        "transposed": lambda n: nn.ConvTranspose2d(n, 4, 1),
        "gru": lambda n: nn.GRU(n, 4, bidirectional=True),
        "lstm cell": lambda n: nn.LSTMCell(n, 4),
    }
    read = readers[reader](before_z + size + 1)
    heads = [make(3, 2 * size)] if layout else [make(3, size), make(3, size)]
    x = torch.randn(40, 3, 2, 2) if maps else torch.randn(40, 3)

    def posterior() -> Any:
        outputs = [head(x) for head in heads]
        if layout == "interleaved":
            return outputs[0].unflatten(1, (-1, 2)).unbind(2)
        return outputs[0].chunk(2, 1) if layout else tuple(outputs)

    def decoded() -> Tensor:
        mu = posterior()[0]
        ones = torch.ones_like(mu[:, :1])
        result = read(torch.cat([ones, 2 * ones, mu, ones], 1))
        return result if isinstance(result, Tensor) else torch.as_tensor(result[0])

    optimizer = torch.optim.Adam([p for layer in (*heads, read) for p in layer.parameters()], lr=0.01)
    (decoded().square().sum() + posterior()[1].square().sum()).backward()
    optimizer.step()
    expected = decoded()
    mu, log_var = (part.movedim(1, -1).reshape(-1, size) for part in posterior())
    consolidate(
        mu=aldvae.Head(heads[0], layout),
        log_var=None if layout else heads[1],
        readers=[aldvae.Reader(read, start=before_z)],
        statistics=LatentStatistics.measure(mu, log_var),
        optimizer=optimizer,
        latent_dim=size,
    )
    torch.testing.assert_close(decoded(), expected, rtol=1e-4, atol=1e-5)
    spread = posterior()[0].detach().movedim(1, -1).reshape(-1, size).var(0, correction=0)
    noise = posterior()[1].detach().exp().movedim(1, -1).reshape(-1, size).mean(0)
    assert (spread.diff() < 1e-6).all()
    assert float((spread + noise - 1).abs().max()) < 0.5
    before = [p.detach().clone() for layer in (*heads, read) for p in layer.parameters()]
    (decoded().square().sum() + posterior()[1].square().sum()).backward()
    optimizer.step()
    after = [p for layer in (*heads, read) for p in layer.parameters()]
    assert {id(p) for p in after} == {id(p) for group in optimizer.param_groups for p in group["params"]}
    moved = [not torch.equal(a, b) for a, b in zip(before, after, strict=True)]
    assert all(moved) or reader == "lstm cell"  # A cell without a state does not use its recurrent weights.


def test_a_convolution_that_reaches_over_a_border_is_not_consolidated() -> None:
    heads = [nn.Conv1d(3, 5, 3), nn.Conv1d(3, 5, 3)]
    rule = aldvae.ConsolidatingRule(epochs=20)
    for reader in (nn.Conv1d(5, 2, 3), nn.Conv1d(5, 2, 1, padding=1), nn.ConvTranspose1d(5, 2, 1, stride=2)):
        with pytest.raises(ArgumentError, match=r"readers\[0\] cannot be consolidated: its kernel size must be 1"):
            aldvae.Compressor(heads=heads, readers=[reader], optimizer=None, rule=rule)


@pytest.mark.parametrize("mean_kl", [False, True])
def test_averaged_losses_decide_as_summed_ones(mean_kl: bool) -> None:
    """A loss of ``mean(recon) + beta * kl`` is the summed one, up to a factor, if beta is adapted."""
    values, start, beta = 50, 10, 0.5

    def sizes(averaged: bool) -> list[Any]:
        torch.manual_seed(0)
        head, reader = nn.Linear(3, start), nn.Linear(start, 3)
        optimizer = torch.optim.SGD([*head.parameters(), *reader.parameters()], lr=0.1)
        weight = beta / values * (start if mean_kl else 1) if averaged else beta
        units: dict[str, Any] = {"units": aldvae.Units(values=values, mean_kl=mean_kl)} if averaged else {}
        layers: dict[str, Any] = {"heads": [head], "readers": [reader], "latent_dim": start}
        compressor = aldvae.Compressor(**layers, optimizer=optimizer, rule=aldvae.RobustRule(beta=weight), **units)
        found = []
        for _ in range(6 if mean_kl else 30):  # An averaged divergence is that of another beta at another size.
            metrics = metrics_of(7, compressor.latent_dim)
            recon = metrics["recon_loss"] / (values if averaged else 1)
            decision = compressor.step(recon_loss=recon, kl=metrics["kl"]).decision
            found += [compressor.latent_dim, decision and decision.reason]
        return found

    assert sizes(averaged=True) == sizes(averaged=False)


def test_a_rules_beta_follows_the_size_if_the_divergence_is_averaged() -> None:
    def compressor_of(**options: Any) -> Any:
        layers: dict[str, Any] = {"heads": [nn.Linear(3, 20), nn.Linear(3, 20)], "readers": [nn.Linear(20, 3)]}
        return aldvae.Compressor(**layers, optimizer=None, **options)

    rule = aldvae.ConsolidatingRule(beta=0.1, epochs=20)
    assert compressor_of(rule=rule).rule is rule
    compressor = compressor_of(rule=rule, units=aldvae.Units(values=784))
    assert compressor.rule.beta == pytest.approx(78.4)
    compressor = compressor_of(rule=rule, units=aldvae.Units(values=784, mean_kl=True))
    assert compressor.rule.beta == pytest.approx(0.1 * 784 / 20)
    aldvae.remove_neurons(compressor.heads, compressor.readers, range(5, 20))
    assert compressor.rule.beta == pytest.approx(0.1 * 784 / 5)
    with pytest.raises(ArgumentError, match="values must be 1 or more"):
        aldvae.Units(values=0)
    recorder = Recorder()
    compressor = compressor_of(rule=recorder, units=aldvae.Units(values=10, mean_kl=True))
    compressor.step(recon_loss=2.0, beta=0.5, silhouette=0.3)
    assert recorder.seen[0][0] == {"recon_loss": 20.0, "beta": 0.25, "silhouette": 0.3}


class Owner(nn.Module):
    """A model with batch norms, in and outside of z, and attributes that hold the latent size."""

    def __init__(self) -> None:
        super().__init__()
        self.latent_dim = 10
        self.encoder = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8))
        self.mu, self.log_var, self.norm = nn.Linear(8, 10), nn.Linear(8, 10), nn.BatchNorm1d(10)
        self.reader = nn.Linear(10, 6)

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.encoder(x)
        out: Tensor = self.reader(self.norm(self.mu(hidden) * self.log_var(hidden).exp()))
        return out


@pytest.mark.parametrize("through", ["sizes", "model"])
def test_an_undo_restores_buffers_and_all_sizes_follow(through: str) -> None:
    torch.manual_seed(0)
    sizes: list[int] = []
    model, settings = Owner(), type("Settings", (), {"latent_dim": 10})()
    optimizer = torch.optim.Adam(model.parameters())
    owner: Any = {"sizes": [(model, "latent_dim"), (settings, "latent_dim")]}
    compressor = aldvae.Compressor(
        heads=[model.mu, model.log_var],
        readers=[model.reader],
        along=[model.norm],
        optimizer=optimizer,
        rule=aldvae.RobustRule(),
        on_resize=sizes.append,
        **(owner if through == "sizes" else {"model": model}),
    )
    history, undone = [], 0
    buffers: dict[str, Tensor] = {}
    for _ in range(30):
        optimizer.zero_grad()
        model(torch.randn(5, 6)).square().sum().backward()
        optimizer.step()
        now = {name: buffer.clone() for name, buffer in model.named_buffers()}
        step = compressor.step(**metrics_of(7, compressor.latent_dim))
        if step.decision is not None and step.decision.undo:
            undone += 1
            assert step.removed or torch.equal(model.norm.running_mean, buffers["norm.running_mean"])  # type: ignore[arg-type]
            for name in ("running_mean", "running_var", "num_batches_tracked"):
                assert torch.equal(model.encoder[1].get_buffer(name), buffers[f"encoder.1.{name}"])
        if step.decision is not None and step.decision.trial:
            buffers = buffers if step.decision.undo else now
        history.append(compressor.latent_dim)
        assert compressor.latent_dim == model.norm.num_features == len(model.norm.running_mean)  # type: ignore[arg-type]
        if through == "sizes":
            assert model.latent_dim == settings.latent_dim == compressor.latent_dim
    assert undone
    assert compressor.found
    assert sizes[-1] == compressor.latent_dim == 7
    assert set(sizes) == {size for before, size in pairwise([10, *history]) if size != before}


def test_sizes_that_are_not_the_latent_size_are_refused() -> None:
    layers: dict[str, Any] = {
        "heads": [nn.Linear(3, 5), nn.Linear(3, 5)],
        "readers": [nn.Linear(5, 3)],
        "optimizer": None,
    }
    owner: Any = nn.Module()
    owner.width = 10
    for name, value in (("width", "10"), ("latent_dim", "None")):
        with pytest.raises(ArgumentError, match=f"sizes name Module.{name}, which is {value}, not the latent size 5"):
            aldvae.Compressor(**layers, sizes=[(owner, name)])


def test_several_processes_need_to_be_told_what_follows(monkeypatch: pytest.MonkeyPatch) -> None:
    layers: dict[str, Any] = {
        "heads": [nn.Linear(3, 5), nn.Linear(3, 5)],
        "readers": [nn.Linear(5, 3)],
        "optimizer": None,
    }
    monkeypatch.setattr(torch.distributed, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: 2)
    with pytest.raises(ArgumentError, match="on_resize must be given with several processes: wrap the model"):
        aldvae.Compressor(**layers)
    aldvae.Compressor(**layers, on_resize=print)
