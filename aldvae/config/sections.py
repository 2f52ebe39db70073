"""The settings of a run in five sections; each checks its own values and names the option that is wrong.

A field made with `setting` is an option of the command line with the same name; `panel` is the heading in ``--help``.
A field without a default is filled in from a preset (see `resolve`). Every section raises `ConfigError`.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.compression.rules.registry import RuleClass, rule_class
from aldvae.config.options import setting
from aldvae.config.presets import preset
from aldvae.config.rules import arguments_as_options
from aldvae.utils.errors import ConfigError, unknown_name

NETWORKS = ("mlp", "conv", "video")
LIKELIHOODS = ("bernoulli", "gaussian")
SCALES = ("learned", "optimal")
POSTERIORS = ("gaussian", "softmax")
AUTO = "auto"
PRECISIONS = ("float32", "bfloat16", AUTO)
SHRUNK_LAYERS = ("trained", "frozen")
FAVOURED = ("loss", "reconstruction", "generation", "clustering")
FID_FEATURES = ("inception", "classifier", "pca", "none")
FID_PRECISIONS = ("float32", "bfloat16", "float16")
SILHOUETTE_ON = ("samples", "means")
SILHOUETTE_GROUPS = ("clusters", "classes")
_LARGEST = 65_536
# In the help, the defaults that follow the number of samples under the recommended protocol.
_FROM_COUNT = "the dataset's, or from the number of your own samples"
_SHOWN_COUNT = "500, or all held out if your own are fewer"


@dataclass(frozen=True, kw_only=True)
class DataConfig:
    """The samples of a run.

    `source` is a hash of the user's own data, whose file or folder `dataset` names without its path; None for a
    built-in dataset.
    """

    panel: ClassVar[str] = "Data"

    source: str | None = None
    dataset: str = setting(
        "digits, mnist, fashionmnist, eurosat, sprites; or your own: a folder of images, .npz, .npy, .csv, .parquet, "
        ".h5ad, or a folder that Hugging Face's datasets saved.",
        "digits",
    )
    limit: int | None = setting("Use only this many samples, the same in every run.", None)
    validation: float = setting(
        "Fraction of the samples held out for the metrics.",
        shown=_FROM_COUNT,
    )
    resize: int | None = setting("Resize the images of your own folder to N x N pixels.", None)
    clusters: int | None = setting(
        "Number of K-means clusters in the latent space, for the Silhouette score. Default: the number of classes; "
        "without labels, none and no score with --protocol recommended.",
        None,
    )

    def __post_init__(self) -> None:
        """Check the values."""
        if self.source is None:
            preset(self.dataset)
        _check_range("limit", self.limit, 2)
        _check_range("resize", self.resize, 1)
        _check_range("clusters", self.clusters, 2)
        if not 0 < self.validation < 1:
            raise ConfigError("validation", f"must be between 0 and 1, not {self.validation:g}")


@dataclass(frozen=True, kw_only=True)
class ModelConfig:
    """The VAE and its training objective."""

    panel: ClassVar[str] = "Model"

    network: str = setting("Encoder and decoder: mlp, conv or video.")
    hidden_dim: int | None = setting("Units of each hidden layer (mlp, conv).", None)
    channels: int | None = setting("Channels of the convolutions (conv, video).", None)
    likelihood: str = setting("Decoder likelihood: bernoulli (pixels) or gaussian (one scale for all values).")
    scale: str = setting(
        "Scale of --likelihood gaussian: learned, or optimal (the root mean squared error, in closed form).",
        "learned",
        shown="the protocol's",
        added="0.2.0",
    )
    standardise: bool = setting(
        "Standardise images inside the model, with one mean and one standard deviation, and start with small posterior "
        "scales; for --likelihood gaussian.",
        False,
        shown="the protocol's",
        added="0.2.0",
    )
    posterior: str = setting(
        "Posterior scales: gaussian (independent) or softmax (the scales of a sample add up to 1).", "gaussian"
    )
    init_dim: int = setting(
        "Latent size at the start.", shown="the dataset's, or with --protocol recommended from the data"
    )
    beta: float = setting("Weight of the KL divergence in the loss.", 1.0)

    def __post_init__(self) -> None:
        """Check the values."""
        _check_choice("network", self.network, NETWORKS)
        _check_choice("likelihood", self.likelihood, LIKELIHOODS)
        _check_choice("scale", self.scale, SCALES)
        _check_choice("posterior", self.posterior, POSTERIORS)
        _check_range("init_dim", self.init_dim, SMALLEST_DIM, _LARGEST)
        _check_range("hidden_dim", self.hidden_dim, 1, _LARGEST)
        _check_range("channels", self.channels, 1, _LARGEST)
        if self.scale != "learned" and self.likelihood != "gaussian":
            raise ConfigError("scale", f"has no effect with --likelihood {self.likelihood}; remove it")
        if self.standardise and self.likelihood != "gaussian":
            raise ConfigError("standardise", f"has no effect with --likelihood {self.likelihood}; remove it")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ConfigError("beta", f"must be zero or a positive number, not {self.beta:g}")


@dataclass(frozen=True, kw_only=True)
class TrainingConfig:
    """How the model is trained."""

    panel: ClassVar[str] = "Training"

    epochs: int = setting(
        "Passes over the training samples.",
        shown=_FROM_COUNT,
    )
    batch_size: int = setting("Samples in one optimiser step.")
    warmup: float = setting(
        "Fraction of the epochs over which the weight of the KL divergence rises to --beta.",
        0.0,
        shown="the protocol's",
        added="0.2.0",
    )
    lr: float = setting("Learning rate of Adam (with AMSGrad).", 1e-3)
    shuffle: bool = setting("Shuffle the training samples in every epoch.", True)
    precision: str = setting(
        "float32, or bfloat16 for matrix products and convolutions; auto: bfloat16 if this machine takes a training "
        "step clearly faster with it, which is measured at the start.",
        "float32",
    )
    seed: int = setting("Seed of weights, sample order, noise and removals.", 0)

    def __post_init__(self) -> None:
        """Check the values."""
        _check_range("epochs", self.epochs, 1)
        _check_range("batch_size", self.batch_size, 1, _LARGEST)
        _check_range("seed", self.seed, 0)
        _check_choice("precision", self.precision, PRECISIONS)
        if not 0 <= self.warmup < 1:
            raise ConfigError("warmup", f"must be 0 or more and less than 1, not {self.warmup:g}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ConfigError("lr", f"must be a positive number, not {self.lr:g}")

    def warmed_up(self, epochs: float) -> float:
        """Return the part of beta, 0 to 1, that the KL divergence weighs after so many `epochs`, whole or not."""
        return min(1.0, epochs / (self.warmup * self.epochs)) if self.warmup else 1.0


@dataclass(frozen=True, kw_only=True)
class CompressionConfig:
    """When neurons are removed, how many, which, and when to stop."""

    panel: ClassVar[str] = "Compression"

    rule: str = setting(
        "When to remove neurons and when to stop: paper (the paper's text), authors (its authors' code), robust "
        "(needs losses alone) or consolidate (recommended: counts the principal directions that carry information).",
        "paper",
        shown="the protocol's",
    )
    select: str = setting(
        "Which neurons are removed: random, kl (lowest KL divergence first) or last.", "random", shown="the rule's"
    )
    patience: int = setting("Epochs between two decisions.", 5, shown="the rule's")
    window: int = setting("Epochs behind the slopes that stop the compression.", 20)
    slow_window: int = setting("Epochs behind the Silhouette slope that slows the compression down.", 10)
    slow_down: str | None = setting(
        "Slow down when the Silhouette score's slope is positive (slope), or when its mean has risen (means); default: "
        "the rule's.",
        None,
    )
    stopping: str | None = setting(
        "Stop always, or only after the slow-down and without the newest epoch (slow); default: the rule's.", None
    )
    step: int = setting("Neurons removed at once before the slow-down.", 5)
    slow_step: int = setting("Neurons removed at once after the slow-down.", 1)
    min_dim: int = setting("Smallest latent size allowed.", SMALLEST_DIM)
    shrunk_layers: str = setting(
        "Heads and the decoder's first layer after the first removal: trained or frozen.", "trained"
    )
    stop: bool = setting("Stop where the rule says; --no-stop only records where it would have stopped.", True)
    threshold_recon_loss: float = setting(
        "Stop only if recon_loss rises by more than this per epoch; lower favours reconstruction.", 0.0
    )
    threshold_silhouette: float = setting("The same for the Silhouette score; higher favours clustering.", 0.0)
    threshold_fid_recon: float = setting("The same for fid_recon; lower favours reconstruction.", 0.0)
    threshold_fid_gen: float = setting("The same for fid_gen; -inf leaves a metric out.", 0.0)
    curve: bool = setting(
        "After the last epoch, let a copy of the model go on down to 2 dimensions: what do fewer cost?",
        False,
        shown="the protocol's",
        added="0.2.0",
    )
    curve_epochs: int | None = setting(
        "Epochs at each size of the curve; sizes are skipped where all of them would take more than half of --epochs. "
        "Default: as many as that allows.",
        None,
        added="0.2.0",
    )
    favour: str | None = setting(
        "Keep the smallest model of the curve that is good by this: loss, reconstruction, generation or clustering; "
        "default: the one whose size was found.",
        None,
        added="0.2.0",
    )
    keep_sizes: bool = setting("Keep the models of all sizes of the curve on disk.", False, added="0.2.0")

    @property
    def rule_class(self) -> RuleClass:
        """The class of the rule, which declares what it needs; raises `ConfigError` for an unknown rule."""
        with arguments_as_options():
            return rule_class(self.rule)

    def __post_init__(self) -> None:
        """Check the values that no rule checks."""
        # Imported here because it imports numpy, which `--help` does not need.
        from aldvae.compression.selection import SELECTIONS

        _check_choice("select", self.select, list(SELECTIONS))
        _check_choice("shrunk_layers", self.shrunk_layers, SHRUNK_LAYERS)
        self._check_curve()

    def _check_curve(self) -> None:
        _check_range("curve_epochs", self.curve_epochs, 1)
        if self.favour is not None:
            _check_choice("favour", self.favour, FAVOURED)
        for name in ("curve_epochs", "favour", "keep_sizes"):
            if not self.curve and getattr(self, name):
                raise ConfigError(name, "has no effect without --curve; remove it")
        if self.curve and not self.stop:
            raise ConfigError("curve", "has no effect with --no-stop, which goes down to the smallest size; remove it")
        if self.curve and self.shrunk_layers == "frozen":
            raise ConfigError("curve", "needs layers that go on training, not --shrunk-layers frozen; remove it")


@dataclass(frozen=True, kw_only=True)
class MetricsConfig:
    """What is measured on the validation samples."""

    panel: ClassVar[str] = "Metrics"

    fid_features: str = setting("Features behind the Fréchet distances: inception (the FID), classifier, pca or none.")
    fid_samples: int = setting("Samples behind each Fréchet distance.", 500, shown=_SHOWN_COUNT)
    fid_precision: str = setting("Precision of the Inception network: float32, bfloat16 or float16.", "float32")
    silhouette_samples: int = setting("Samples behind the Silhouette score.", 500, shown=_SHOWN_COUNT)
    silhouette_on: str = setting(
        "Points of the Silhouette score: samples (latent samples) or means (posterior means).", "samples"
    )
    silhouette_groups: str = setting(
        "Groups of the Silhouette score: clusters (K-means) or classes (labels).", "clusters"
    )
    metrics_every: int = setting("Compute metrics every K epochs; must divide --patience.", 1)

    def __post_init__(self) -> None:
        """Check the values."""
        _check_choice("fid_features", self.fid_features, FID_FEATURES)
        _check_choice("fid_precision", self.fid_precision, FID_PRECISIONS)
        _check_choice("silhouette_on", self.silhouette_on, SILHOUETTE_ON)
        _check_choice("silhouette_groups", self.silhouette_groups, SILHOUETTE_GROUPS)
        _check_range("fid_samples", self.fid_samples, 2)
        _check_range("metrics_every", self.metrics_every, 1)
        if self.fid_precision != "float32" and self.fid_features != "inception":
            raise ConfigError("fid_precision", f"has no effect with --fid-features {self.fid_features}; remove it")


def _check_choice(option: str, value: str, choices: Sequence[str]) -> None:
    if value not in choices:
        raise unknown_name(option, value, list(choices))


def _check_range(option: str, value: int | None, smallest: int, largest: int | None = None) -> None:
    if value is not None and value < smallest:
        raise ConfigError(option, f"must be {smallest} or more, not {value}")
    if value is not None and largest is not None and value > largest:
        raise ConfigError(option, f"must be {largest} or less, not {value}")
