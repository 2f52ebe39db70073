"""The paper's protocol as data: what section 4.1 and Algorithm 1 fix for each dataset.

A run takes from here whatever the user does not set. The code that the paper's authors published does otherwise in
places; these differences are data, too.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from aldvae.utils.errors import unknown_name

# The paper repeats every run with five seeds.
SEEDS = range(5)


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What the paper (or, for digits and the user's own data, this project) trains on one dataset.

    `clusters` is k of K-means, the number of classes; None where nothing tells. `grid` are the fixed sizes, `init_dims`
    the initial sizes of the adaptive runs. `validation` is the fraction of the training set held out. `hidden_dim` is
    None for the network's own. `rule` is the paper's for what the paper or its figures train on, since these are to be
    reproduced; who asks about data of their own gets the one to rely on.
    """

    clusters: int | None
    network: str
    hidden_dim: int | None
    epochs: int = 200
    grid: tuple[int, ...]
    init_dims: tuple[int, ...] = (100, 80, 64)
    batch_size: int = 64
    validation: float = 0.1
    likelihood: str = "bernoulli"
    fid_features: str = "inception"
    rule: str = "paper"


PROTOCOLS = {
    "digits": Protocol(
        clusters=10,
        network="mlp",
        hidden_dim=128,
        grid=(2, 4, 6, 8, 12, 16),
        init_dims=(32, 24, 16),
        # 1,797 images in all: a tenth would be too few behind a Fréchet distance of 500.
        validation=0.3,
        fid_features="classifier",
    ),
    "mnist": Protocol(clusters=10, network="mlp", hidden_dim=400, grid=(4, 8, 12, 16, 24, 32)),
    "fashionmnist": Protocol(clusters=10, network="mlp", hidden_dim=400, grid=(8, 16, 24, 32, 64)),
    "eurosat": Protocol(clusters=10, network="conv", hidden_dim=256, grid=(16, 24, 32, 64)),
    "sprites": Protocol(clusters=9, network="video", hidden_dim=None, epochs=300, grid=(12, 16, 24, 32), batch_size=16),
}


def protocol(dataset: str) -> Protocol:
    """Return the protocol of `dataset`; raises `ConfigError` with the nearest name where there is none."""
    if dataset not in PROTOCOLS:
        raise unknown_name("dataset", dataset, list(PROTOCOLS))
    return PROTOCOLS[dataset]


PAPER = "paper"
DIFFERENCES: dict[str, Mapping[str, str | int | bool]] = {
    PAPER: {},
    # What the authors' code does, not why: the paper's text says otherwise, or nothing.
    "authors": {
        "posterior": "softmax",
        "shuffle": False,
        "rule": "authors",
        "select": "last",
        "shrunk_layers": "frozen",
        "silhouette_groups": "classes",
        "silhouette_samples": 1000,
        "fid_samples": 100,
    },
}


def differences(name: str) -> Mapping[str, str | int | bool]:
    """Return the settings in which the protocol called `name`, ``"paper"`` or ``"authors"``, differs from the paper's.

    Raises `ConfigError` with the nearest name where there is none.
    """
    if name not in DIFFERENCES:
        raise unknown_name("protocol", name, list(DIFFERENCES))
    return DIFFERENCES[name]


def own_protocol(shape: tuple[int, ...], n_classes: int) -> Protocol:
    """Return what is used for the user's own samples of `shape` where they do not say otherwise.

    Gray pictures of up to 32 pixels a side get the fully connected network, others the convolutional one. Without
    classes (`n_classes` 0) nothing tells the number of clusters. The features are those that need no labels, no
    pictures and no download.
    """
    vectors, video = len(shape) == 1, len(shape) == 4
    small = vectors or min(shape[1:]) < 16 or (shape[0] == 1 and max(shape[1:]) <= 32)
    init_dim = min(100, shape[0]) if vectors else 100
    return Protocol(
        clusters=n_classes or None,
        network="video" if video else "mlp" if small else "conv",
        hidden_dim=None,
        grid=tuple(size for size in (2, 4, 8, 12, 16, 24, 32, 64) if size <= init_dim),
        init_dims=(init_dim,) if vectors else (100, 80, 64),
        batch_size=16 if video else 64,
        likelihood="gaussian" if vectors else "bernoulli",
        fid_features="pca",
        rule="robust",
    )
