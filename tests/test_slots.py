"""Every type of slot: what is kept computes the same, and optimisers follow."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.nn.utils import prune

import aldvae
from aldvae.compression.layers import latent_space
from aldvae.compression.slots import Layout
from aldvae.compression.surgery import grow
from tests.test_surgery import OPTIMIZERS

FEATURES = 3
# What makes a layer, and the spatial dimensions of its input.
HEADS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "linear": (lambda n: nn.Linear(FEATURES, n), 0),
    "linear without bias": (lambda n: nn.Linear(FEATURES, n, bias=False), 0),
    "conv1d": (lambda n: nn.Conv1d(FEATURES, n, 3, padding=1), 1),
    "conv2d": (lambda n: nn.Conv2d(FEATURES, n, 1), 2),
    "conv3d": (lambda n: nn.Conv3d(FEATURES, n, 2), 3),
    "transposed": (lambda n: nn.ConvTranspose2d(FEATURES, n, 2, stride=2), 2),
}
READERS: dict[str, tuple[Callable[[int], nn.Module], int]] = {
    "linear": (lambda n: nn.Linear(n, 5), 0),
    "conv1d": (lambda n: nn.Conv1d(n, 5, 3, padding=1), 1),
    "conv2d": (lambda n: nn.Conv2d(n, 5, 1), 2),
    "conv3d": (lambda n: nn.Conv3d(n, 5, 2), 3),
    "transposed": (lambda n: nn.ConvTranspose2d(n, 5, 2, stride=2), 2),
    "gru": (lambda n: nn.GRU(n, 4, num_layers=2, batch_first=True, bidirectional=True), -1),
    "lstm": (lambda n: nn.LSTM(n, 4, batch_first=True), -1),
    "rnn": (lambda n: nn.RNN(n, 4, bidirectional=True, batch_first=True), -1),
    "gru cell": (lambda n: nn.GRUCell(n, 4), 0),
}
subsets = st.integers(3, 9).flatmap(
    lambda size: st.tuples(st.just(size), st.sets(st.integers(0, size - 1), max_size=size - 2))
)

names = st.sampled_from([*OPTIMIZERS])


def example(channels: int, spatial: int) -> Tensor:
    """Return an input of 2 samples for a layer; -1 stands for a sequence."""
    shape = (2, 4, channels) if spatial < 0 else (2, channels, *[3] * spatial)
    return torch.randn(shape)


def output(layer: nn.Module, x: Tensor) -> Tensor:
    # Without a state, a cell's recurrent weights have no gradient.
    result = layer(x, torch.ones(len(x), 4)) if isinstance(layer, nn.GRUCell) else layer(x)
    first: Tensor = result[0] if isinstance(result, tuple) else result
    return first


def trained(layer: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer, steps: int = 2) -> None:
    for _ in range(steps):
        optimizer.zero_grad()
        output(layer, x).sin().square().sum().backward()
        optimizer.step()


def of_moments(layer: nn.Module, optimizer: torch.optim.Optimizer, name: str) -> nn.Module:
    """Return a copy of `layer` whose weights are what the optimiser keeps for them as `name`."""
    twin = copy.deepcopy(layer)
    for parameter, own in zip(layer.parameters(), twin.parameters(), strict=True):
        own.data = optimizer.state[parameter][name].clone()
    return twin


def check_optimizer_follows(layer: nn.Module, optimizer: torch.optim.Optimizer, twins: dict[str, nn.Module]) -> None:
    """The moments were cut as weights are; every parameter is in the optimiser and moves."""
    for name, twin in twins.items():
        for parameter, expected in zip(layer.parameters(), twin.parameters(), strict=True):
            assert torch.equal(optimizer.state[parameter][name], expected)
    held = {id(p) for group in optimizer.param_groups for p in group["params"]}
    assert {id(p) for p in layer.parameters()} <= held
    assert {id(p) for p in optimizer.state} <= held


def check_all_move(layer: nn.Module, x: Tensor, optimizer: torch.optim.Optimizer) -> None:
    before = [p.detach().clone() for p in layer.parameters()]
    trained(layer, x, optimizer, steps=1)
    assert not any(torch.equal(p, old) for p, old in zip(layer.parameters(), before, strict=True))


def moments_of(optimizer: torch.optim.Optimizer, layer: nn.Module) -> list[str]:
    parameter = next(layer.parameters())
    state = optimizer.state.get(parameter, {})
    return [name for name, value in state.items() if isinstance(value, Tensor) and value.shape == parameter.shape]


@pytest.mark.parametrize("kind", HEADS)
@settings(deadline=None, max_examples=8)
@given(subset=subsets, layout=st.sampled_from([None, "blocks", "interleaved"]), optimizer_name=names)
def test_a_head_writes_the_same_for_the_dimensions_that_stay(
    kind: str, subset: tuple[int, set[int]], layout: Layout | None, optimizer_name: str
) -> None:
    size, removed = subset
    keep = [j for j in range(size) if j not in removed]
    torch.manual_seed(size)
    make, spatial = HEADS[kind]
    head, x = make(size * (2 if layout else 1)), example(FEATURES, spatial)
    partner = nn.Linear(size, 2)
    optimizer = OPTIMIZERS[optimizer_name]([*head.parameters(), *partner.parameters()])
    trained(head, x, optimizer)
    twins = {name: of_moments(head, optimizer, name) for name in moments_of(optimizer, head)}

    def quantities(outputs: Tensor) -> Any:
        """Return (2 samples, quantities, dimensions, ...), as the user's own code splits them."""
        if layout == "interleaved":
            return outputs.unflatten(1, (-1, 2)).transpose(1, 2)
        return outputs.unflatten(1, (2 if layout else 1, -1))

    before = quantities(head(x))
    aldvae.remove_neurons([aldvae.Head(head, layout)], [partner], removed, optimizer, latent_dim=size)
    for twin in twins.values():
        aldvae.remove_neurons([aldvae.Head(twin, layout)], [nn.Linear(size, 2)], removed, latent_dim=size)
    torch.testing.assert_close(quantities(head(x)), before[:, :, keep], rtol=1e-5, atol=1e-6)
    check_optimizer_follows(head, optimizer, twins)
    check_all_move(head, x, optimizer)


@pytest.mark.parametrize("kind", READERS)
@settings(deadline=None, max_examples=8)
@given(subset=subsets, before_z=st.integers(0, 3), after_z=st.integers(0, 3), optimizer_name=names)
def test_a_reader_makes_the_same_of_the_dimensions_that_stay(
    kind: str, subset: tuple[int, set[int]], before_z: int, after_z: int, optimizer_name: str
) -> None:
    size, removed = subset
    torch.manual_seed(size)
    make, spatial = READERS[kind]
    width = before_z + size + after_z
    reader, x, partner = make(width), example(width, spatial), nn.Linear(FEATURES, size)
    optimizer = OPTIMIZERS[optimizer_name]([*reader.parameters(), *partner.parameters()])
    trained(reader, x, optimizer)
    twins = {name: of_moments(reader, optimizer, name) for name in moments_of(optimizer, reader)}
    dim = -1 if spatial <= 0 else 1
    stays = torch.tensor([p for p in range(width) if p - before_z not in removed])
    without = x.index_fill(dim, torch.tensor([before_z + j for j in removed], dtype=torch.long), 0)
    before = output(reader, without)

    def remove(layer: nn.Module, head: nn.Module, optimizer: torch.optim.Optimizer | None = None) -> None:
        slot = aldvae.Reader(layer, start=before_z)
        aldvae.remove_neurons([head], [slot], removed, optimizer, latent_dim=size)

    remove(reader, partner, optimizer)
    for twin in twins.values():
        remove(twin, nn.Linear(FEATURES, size))
    smaller = x.index_select(dim, stays)
    torch.testing.assert_close(output(reader, smaller), before, rtol=1e-5, atol=1e-6)
    check_optimizer_follows(reader, optimizer, twins)
    check_all_move(reader, smaller, optimizer)


NORMS: dict[str, Callable[[int], nn.Module]] = {
    "batch norm": nn.BatchNorm1d,
    "batch norm without parameters": lambda n: nn.BatchNorm1d(n, affine=False),
    "PReLU": nn.PReLU,
}


@pytest.mark.parametrize("kind", NORMS)
@settings(deadline=None, max_examples=8)
@given(subset=subsets)
def test_what_lies_along_the_latent_vector_follows(kind: str, subset: tuple[int, set[int]]) -> None:
    size, removed = subset
    keep = [j for j in range(size) if j not in removed]
    torch.manual_seed(size)
    norm, head, reader = NORMS[kind](size), nn.Linear(FEATURES, size), nn.Linear(size, 2)
    owner: Any = nn.Module()
    owner.prior = nn.Parameter(torch.randn(1, size))
    owner.register_buffer("scales", torch.randn(3, size))
    modules = nn.ModuleList([norm, head, reader, owner])
    optimizer = torch.optim.Adam(modules.parameters(), lr=0.1)

    def loss() -> Any:
        z: Tensor = norm(head(torch.randn(99, FEATURES)) + owner.prior)
        return reader(z * owner.scales.sum(0)).square().sum()

    loss().backward()
    optimizer.step()
    moments = optimizer.state[owner.prior]["exp_avg"]
    prior, scales = owner.prior.detach().clone(), owner.scales.clone()
    x = torch.randn(8, size)
    norm.eval()
    before = norm(x)
    along: list[Any] = [norm, (owner, "prior", 1), (owner, "scales", 1)]
    aldvae.remove_neurons([head], [reader], removed, optimizer, along=along, latent_dim=size)
    torch.testing.assert_close(norm(x[:, keep]), before[:, keep])
    assert torch.equal(owner.prior, prior[:, keep])
    assert torch.equal(owner.scales, scales[:, keep])
    assert torch.equal(optimizer.state[owner.prior]["exp_avg"], moments[:, keep])
    assert set(dict(owner.named_buffers())) == {"scales"}
    norm.train()
    optimizer.zero_grad()
    loss().backward()
    before_step = [p.detach().clone() for p in modules.parameters()]
    optimizer.step()
    assert len(before_step) == len([p for group in optimizer.param_groups for p in group["params"]])
    assert not any(torch.equal(p, old) for p, old in zip(modules.parameters(), before_step, strict=True))


def test_a_layer_norm_follows() -> None:
    norm = nn.LayerNorm(5)
    nn.init.normal_(norm.weight)
    weight = norm.weight.detach().clone()
    aldvae.remove_neurons([nn.Linear(3, 5)], [nn.Linear(5, 2)], [1, 2], along=[norm], latent_dim=5)
    assert (norm.normalized_shape, norm(torch.randn(4, 3)).shape) == ((3,), (4, 3))
    assert torch.equal(norm.weight, weight[[0, 3, 4]])


@pytest.mark.parametrize("layout", ["blocks", "interleaved"])
def test_growth_keeps_what_was_there(layout: Layout) -> None:
    torch.manual_seed(0)
    head, reader, x = nn.Conv2d(3, 8, 1), nn.GRU(9, 5), torch.randn(2, 3, 1, 1)
    space = latent_space([aldvae.Head(head, layout)], [aldvae.Reader(reader, 2)], latent_dim=4)

    def split(outputs: Tensor) -> Any:
        flat = outputs.flatten(1)
        return flat.unflatten(1, (-1, 2)).mT if layout == "interleaved" else flat.unflatten(1, (2, -1))

    before, inputs = split(head(x)), torch.randn(6, 1, 9)
    read = reader(inputs)[0]
    grow(space, 3, random=torch.Generator().manual_seed(0))
    assert (head.out_channels, reader.input_size) == (14, 12)
    torch.testing.assert_close(split(head(x))[..., :4], before)
    more = torch.cat([inputs[..., :6], torch.zeros(6, 1, 3), inputs[..., 6:]], -1)
    torch.testing.assert_close(reader(more)[0], read)


def test_the_size_is_read_off_only_where_it_is_beyond_doubt() -> None:
    def size(*, latent_dim: int | None = None, head: Any = None, start: int | None = None, inputs: int = 10) -> int:
        heads = [nn.Linear(3, 10), nn.Linear(3, 10)] if head is None else [head]
        return latent_space(heads, [aldvae.Reader(nn.Linear(inputs, 2), start)], latent_dim=latent_dim).size

    joint = nn.Linear(3, 20)
    assert size() == size(start=5, inputs=15) == size(head=aldvae.Head(joint, "blocks")) == 10
    assert size(head=aldvae.Head(joint, "interleaved"), inputs=20, latent_dim=10, start=0) == 10
    assert size(head=joint, inputs=20, latent_dim=20) == 20
    cases: dict[str, dict[str, Any]] = {
        r"heads\[0\] has 20 outputs for a latent size of 10: give its layout": {"head": joint},
        "latent_dim must be given: .* the readers have 20 inputs": {"head": aldvae.Head(joint, "blocks"), "inputs": 20},
        "does not fit readers of 15 inputs; .* give latent_dim": {"inputs": 15},
        r"readers\[0\] cannot read .* from input 3 on do not fit its 12 inputs": {
            "inputs": 12,
            "start": 3,
            "latent_dim": 10,
        },
        r"heads\[0\] has 20 outputs .* give its layout": {"head": joint, "inputs": 20, "latent_dim": 10, "start": 0},
        "latent_dim must be given: one head has 20 outputs, as many as .* give its layout": {
            "head": joint,
            "inputs": 20,
        },
        r"readers\[0\] has 12 inputs .* as in aldvae.Reader\(module, start=0\)": {"inputs": 12, "latent_dim": 10},
        "latent_dim does not fit: .* no multiple of 7": {"latent_dim": 7},
    }
    for message, arguments in cases.items():
        with pytest.raises(ValueError, match=message) as caught:
            size(**arguments)
        assert len(str(caught.value).splitlines()) == 1


def test_layers_that_cannot_be_shrunk_are_refused_with_the_remedy() -> None:
    pruned = nn.Linear(3, 6)
    prune.l1_unstructured(pruned, "weight", 2)
    owner = nn.Module()
    owner.square = nn.Parameter(torch.zeros(6, 6))
    head, reader = nn.Linear(3, 6), nn.Linear(6, 2)
    cases: list[tuple[str, dict[str, Any]]] = [
        ("run one forward pass first", {"heads": [nn.LazyLinear(6)]}),
        ("groups=1, not 3", {"heads": [nn.Conv1d(3, 6, 1, groups=3)]}),
        ("computed from others", {"heads": [pruned]}),
        ("give its .module", {"readers": [nn.DataParallel(reader)]}),
        ("listed twice", {"readers": [reader, reader]}),
        ("GRU, LSTM, RNN or a cell of these, not Transformer", {"readers": [nn.TransformerEncoderLayer(6, 2)]}),
        ("must be a batch, instance or layer norm", {"along": [nn.GroupNorm(2, 6)]}),
        ("has 5 entries, but the latent size is 6", {"along": [nn.BatchNorm1d(5)]}),
        ("2 dimensions have 6 entries; say which one", {"along": [(owner, "square")]}),
        ("has none called 'prior'", {"along": [(owner, "prior")]}),
        ("a pair", {"along": [owner.square]}),
    ]
    for message, arguments in cases:
        with pytest.raises((TypeError, ValueError), match=message):
            latent_space(**{"heads": [head], "readers": [reader], "latent_dim": 6, **arguments})
    with pytest.raises(ValueError, match="layout bloks is not known; did you mean blocks"):
        aldvae.Head(head, layout="bloks")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="start must be 0 or more"):
        aldvae.Reader(reader, start=-1)


def test_tied_readers_stay_tied_and_other_ties_are_refused() -> None:
    head, first, second = nn.Linear(3, 6), nn.Linear(6, 6), nn.Linear(6, 6)
    second.weight = first.weight
    tied: list[Tensor] = [*head.parameters(), first.weight, first.bias, second.bias]
    optimizer = torch.optim.Adam(tied)
    aldvae.remove_neurons([head], [first, second], [0], optimizer, latent_dim=6)
    assert first.weight is second.weight
    assert first.weight.shape == (6, 5)
    assert sum(p is first.weight for group in optimizer.param_groups for p in group["params"]) == 1
    square = nn.Linear(6, 6)
    reader = nn.Linear(6, 6)
    reader.weight = square.weight
    with pytest.raises(ValueError, match="untie"):
        latent_space([square], [reader], latent_dim=6)


def test_lazy_layers_that_are_built_and_compiled_layers_work() -> None:
    head, lazy = nn.Linear(3, 6), nn.LazyLinear(2)
    lazy(torch.zeros(1, 6))
    compiled: Any = torch.compile(head, backend="eager")
    compiled(torch.randn(4, 3))
    aldvae.remove_neurons([compiled], [lazy], [5], latent_dim=6)
    assert lazy(compiled(torch.randn(4, 3))).shape == (4, 2)
    assert head.out_features == lazy.in_features == 5


def test_several_optimisers_with_groups_follow() -> None:
    head, reader, x = nn.Linear(3, 6), nn.Linear(6, 2), torch.randn(9, 3)
    groups: list[dict[str, Any]] = [{"params": [head.weight]}, {"params": [head.bias], "lr": 0.5}]
    optimizers: list[torch.optim.Optimizer] = [
        torch.optim.Adam(groups),
        torch.optim.SGD(reader.parameters(), lr=0.1, momentum=0.9),
    ]

    def step() -> None:
        reader(head(x)).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
            optimizer.zero_grad()

    step()
    momentum = optimizers[1].state[reader.weight]["momentum_buffer"]
    aldvae.remove_neurons([head], [reader], [2, 4], optimizers, latent_dim=6)
    assert torch.equal(optimizers[1].state[reader.weight]["momentum_buffer"], momentum[:, [0, 1, 3, 5]])
    assert [len(group["params"]) for group in optimizers[0].param_groups] == [1, 1]
    before = [p.detach().clone() for p in (*head.parameters(), *reader.parameters())]
    step()
    after = [*head.parameters(), *reader.parameters()]
    assert not any(torch.equal(a, b) for a, b in zip(before, after, strict=True))
    with pytest.raises(ValueError, match="does not hold"):
        aldvae.remove_neurons([head], [reader], [0], optimizers[:1], latent_dim=4)
