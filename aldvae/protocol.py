"""The paper's protocol as data: what section 4.1 and Algorithm 1 fix for each dataset.

A run takes from here whatever the user does not set.
"""

from dataclasses import dataclass

from aldvae.errors import unknown_name


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """What the paper (or, for digits, this project) trains on one dataset.

    `n_clusters` is k of K-means, the number of classes. `grid` are the fixed sizes, `init_dims` the initial sizes
    of the adaptive runs. `validation` is the part of the training set held out. `threads` is how many CPU threads
    pay (None: leave it to torch).
    """

    n_clusters: int
    network: str
    hidden_dim: int
    epochs: int
    grid: tuple[int, ...]
    init_dims: tuple[int, ...]
    batch_size: int = 64
    validation: float = 0.1
    fid_features: str = "inception"
    threads: int | None = None


PROTOCOLS = {
    "digits": Protocol(
        n_clusters=10,
        network="mlp",
        hidden_dim=128,
        epochs=200,
        grid=(2, 4, 6, 8, 12, 16),
        init_dims=(32, 24, 16),
        # 1,797 images in all: a tenth would be too few behind a Fréchet distance of 500.
        validation=0.3,
        fid_features="classifier",
        # So small a network loses more by handing work to a second thread than it gains.
        threads=1,
    ),
    "mnist": Protocol(
        n_clusters=10,
        network="mlp",
        hidden_dim=400,
        epochs=200,
        grid=(4, 8, 12, 16, 24, 32),
        init_dims=(100, 80, 64),
    ),
    "fashionmnist": Protocol(
        n_clusters=10,
        network="mlp",
        hidden_dim=400,
        epochs=200,
        grid=(8, 16, 24, 32, 64),
        init_dims=(100, 80, 64),
    ),
}


def protocol(dataset: str) -> Protocol:
    """Return the protocol of `dataset`; raises `ConfigError` with the nearest name where there is none."""
    if dataset not in PROTOCOLS:
        raise unknown_name("dataset", dataset, list(PROTOCOLS))
    return PROTOCOLS[dataset]
