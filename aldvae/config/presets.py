"""Defaults: a preset for each dataset, and the protocols that change it.

The presets are what the paper fixes in section 4.1 and Algorithm 1. The code that its authors published differs from
the text in places; the protocol ``authors`` holds these differences.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass

from aldvae.config.options import Value
from aldvae.utils.errors import unknown_name

# The paper repeats every run with five seeds.
SEEDS = range(5)
PAPER, RECOMMENDED = "paper", "recommended"


@dataclass(frozen=True, kw_only=True)
class Preset:
    """The values for one dataset: the paper's, or for digits and the user's own data this project's.

    `clusters` is k of K-means, the number of classes; None where the data do not tell. `grid` holds the fixed sizes of
    a grid search, `init_dims` the initial sizes of adaptive runs. `validation` is the fraction of the training set held
    out. `recommended_likelihood` replaces `likelihood` under the recommended protocol. `local_features` are Fréchet
    features that need no download. `hidden_dim` is None for the network's own default. `protocol` is used where none is
    named. `vectors` says whether the samples are vectors.
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
    recommended_likelihood: str = "bernoulli"
    fid_features: str = "inception"
    local_features: str = "classifier"
    protocol: str = PAPER
    vectors: bool = False

    @property
    def settings(self) -> dict[str, Value]:
        """The settings of a run that the preset gives, by name, except the rule."""
        values: dict[str, Value] = {
            "validation": self.validation,
            "clusters": self.clusters,
            "network": self.network,
            "hidden_dim": self.hidden_dim,
            "likelihood": self.likelihood,
            "init_dim": self.init_dims[0],
            "epochs": self.epochs,
            "batch_size": self.batch_size,
            "fid_features": self.fid_features,
        }
        return {name: value for name, value in values.items() if value is not None}


PRESETS = {
    "digits": Preset(
        clusters=10,
        network="mlp",
        hidden_dim=128,
        grid=(2, 4, 6, 8, 12, 16),
        init_dims=(32, 24, 16),
        # 1,797 images in all: a tenth would be too few behind a Fréchet distance of 500.
        validation=0.3,
        fid_features="classifier",
        protocol=RECOMMENDED,
    ),
    "mnist": Preset(clusters=10, network="mlp", hidden_dim=400, grid=(4, 8, 12, 16, 24, 32)),
    "fashionmnist": Preset(clusters=10, network="mlp", hidden_dim=400, grid=(8, 16, 24, 32, 64)),
    "eurosat": Preset(clusters=10, network="conv", hidden_dim=256, grid=(16, 24, 32, 64)),
    "sprites": Preset(clusters=9, network="video", hidden_dim=None, epochs=300, grid=(12, 16, 24, 32), batch_size=16),
}


def preset(dataset: str) -> Preset:
    """Return the preset of a built-in dataset; raises `ConfigError` with the nearest name for any other."""
    if dataset not in PRESETS:
        raise unknown_name("dataset", dataset, list(PRESETS))
    return PRESETS[dataset]


_PROTOCOLS: dict[str, Mapping[str, Value]] = {
    PAPER: {},
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
    RECOMMENDED: {"rule": "consolidate", "warmup": 0.2, "scale": "optimal", "standardise": True, "curve": True},
}


def protocol_settings(protocol: str, preset: Preset) -> Mapping[str, Value]:
    """Return the settings in which a `protocol` differs from a `preset`.

    ``"paper"`` is its text and ``"authors"`` the code of its authors. ``"recommended"`` is what this project found
    best: the weight of the KL divergence rises at first, so that dimensions become informative before they are judged;
    most of the user's own images have a Gaussian likelihood, with the optimal scale and standardised inside the model;
    no features are downloaded; and a curve shows what fewer dimensions cost. Raises `ConfigError` with the nearest name
    for any other.
    """
    if protocol not in _PROTOCOLS:
        raise unknown_name("protocol", protocol, list(_PROTOCOLS))
    if protocol != RECOMMENDED:
        return _PROTOCOLS[protocol]
    by_data: dict[str, Value] = {
        "fid_features": preset.local_features,
        "likelihood": preset.recommended_likelihood,
        "standardise": not preset.vectors,
    }
    return {**_PROTOCOLS[protocol], **by_data}


def changed_settings(dataset: str, source: str | None) -> set[str]:
    """Return the names of the settings that the default protocol of a dataset changes; `source` as in `DataConfig`.

    Those that have no default of their own, such as the Fréchet features, are left out. For the user's own data, the
    numbers of samples behind the metrics follow that of all samples.
    """
    if source is None:
        return set(_PROTOCOLS[preset(dataset).protocol])
    return {*_PROTOCOLS[RECOMMENDED], "fid_samples", "silhouette_samples"}


# Measured (docs/data.md): samples from the prior are better with a Gaussian likelihood at a contrast of 0.11 (EuroSAT)
# and below, and with a Bernoulli likelihood at 0.61 (FashionMNIST) and above.
_BERNOULLI_CONTRAST = 0.5


def _suits_video(shape: tuple[int, ...]) -> bool:
    """Return whether the network for video supports samples of `shape`, (C, T, H, W): it halves T, quarters H and W."""
    return not (shape[1] % 2 or shape[2] % 4 or shape[3] % 4) and math.prod(shape[1:]) > 32


def own_data_preset(shape: tuple[int, ...], n_classes: int, contrast: float = 0.0) -> Preset:
    """Return the preset for the user's own samples of `shape`: (D,), (C, H, W) or (C, T, H, W).

    Gray images of up to 32 pixels a side get the fully connected network, larger and colour images the convolutional
    one. Video gets the network for it if its size suits that, else the fully connected one. `clusters` is None without
    classes (`n_classes` 0). PCA features need no labels, no images and no download. `contrast` is that of images, as in
    `Samples`.
    """
    vectors, video = len(shape) == 1, len(shape) == 4
    small = vectors or min(shape[1:]) < 16 or (shape[0] == 1 and max(shape[1:]) <= 32)
    init_dim = min(100, shape[0]) if vectors else 100
    return Preset(
        clusters=n_classes or None,
        network=("video" if _suits_video(shape) else "mlp") if video else "mlp" if small else "conv",
        hidden_dim=None,
        grid=tuple(size for size in (2, 4, 8, 12, 16, 24, 32, 64) if size <= init_dim),
        init_dims=(init_dim,) if vectors else (100, 80, 64),
        batch_size=16 if video else 64,
        likelihood="gaussian" if vectors else "bernoulli",
        recommended_likelihood="bernoulli" if video or contrast > _BERNOULLI_CONTRAST else "gaussian",
        fid_features="pca",
        local_features="classifier" if n_classes > 1 and shape[0] in (1, 3) and not vectors else "pca",
        protocol=RECOMMENDED,
        vectors=vectors,
    )
