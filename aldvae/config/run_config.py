"""What a run is: a frozen, checked set of settings. How and where it is executed is kept apart."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from aldvae.compression.rules.base import SMALLEST_DIM
from aldvae.compression.rules.registry import BuiltInRule, rule_class, rule_defaults
from aldvae.compression.rules.slopes import METRICS
from aldvae.config.options import flag, setting, settings
from aldvae.config.presets import protocol
from aldvae.config.rules import arguments_as_options, rule_settings
from aldvae.utils.errors import ConfigError, unknown_name

NETWORKS = ("mlp", "conv", "video")
LIKELIHOODS = ("bernoulli", "gaussian")
POSTERIORS = ("gaussian", "softmax")
FID_FEATURES = ("inception", "classifier", "pca", "none")
PRECISIONS = ("float32", "bfloat16")
FID_PRECISIONS = ("float32", "bfloat16", "float16")
_LARGEST = 65_536
SILHOUETTE_ON = ("samples", "means")
SILHOUETTE_GROUPS = ("clusters", "classes")
SHRUNK_LAYERS = ("trained", "frozen")


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's numbers; two runs with equal configurations give equal results.

    `kind` is ``"adaptive"``, or ``"fixed"`` for a model whose size stays `init_dim`. `source` is a hash of the user's
    own data, whose file or folder `dataset` names without its place; None for a dataset known by name. Settings without
    a default here come from the dataset's protocol (see `resolve`). Raises `ConfigError` naming the option that makes
    no sense.
    """

    kind: str
    source: str | None = None
    dataset: str = setting(
        "Data",
        "digits, mnist, fashionmnist, eurosat, sprites; or your own: a folder of pictures, .npz, .npy, .csv, .parquet.",
        "digits",
    )
    limit: int | None = setting("Data", "Use only this many samples, the same each time.", None)
    validation: float = setting("Data", "Fraction of the samples held out for the metrics.")
    resize: int | None = setting("Data", "Bring the pictures of a folder of your own to N x N pixels.", None)
    clusters: int = setting("Data", "Groups to look for in the latent space; without it, the number of classes.")
    network: str = setting("Model", "The encoder and decoder: mlp, conv or video.")
    hidden_dim: int | None = setting("Model", "Units of each hidden layer (mlp, conv).", None)
    channels: int | None = setting("Model", "Channels of the convolutions (conv, video).", None)
    likelihood: str = setting("Model", "What the decoder means: bernoulli (pixels) or gaussian (one learned scale).")
    posterior: str = setting(
        "Model", "Posterior scales: gaussian (each its own) or softmax (those of a sample add up to 1).", "gaussian"
    )
    init_dim: int = setting("Model", "Latent size to start from.")
    beta: float = setting("Model", "Weight of the KL divergence in the loss.", 1.0)
    epochs: int = setting("Training", "Passes over the training images.")
    batch_size: int = setting("Training", "Images in one step of the optimiser.")
    lr: float = setting("Training", "Learning rate of Adam (with AMSGrad).", 1e-3)
    shuffle: bool = setting("Training", "Take the training images in a new order each epoch.", True)
    precision: str = setting("Training", "Train in float32, or the products in bfloat16.", "float32")
    seed: int = setting("Training", "Seed of weights, order, noise and removals.", 0)
    rule: str = setting(
        "Compression",
        "When to remove and when to stop: paper (its text) or authors (its code), to reproduce them; or robust, for an "
        "answer to rely on (the default for your own data).",
        "paper",
    )
    select: str = setting("Compression", "Which neurons go: random, kl (lowest first) or last.", "random")
    patience: int = setting("Compression", "Epochs between two decisions.", 5)
    window: int = setting("Compression", "Epochs behind the slopes that stop the compression.", 20)
    slow_window: int = setting("Compression", "Epochs behind the Silhouette slope that slows it down.", 10)
    slow_down: str | None = setting(
        "Compression",
        "What slows it down: the Silhouette score's slope, or its means; without it, as --rule does.",
        None,
    )
    stopping: str | None = setting(
        "Compression",
        "Stop always, or only when slow already, the newest epoch left out; without it, as --rule does.",
        None,
    )
    step: int = setting("Compression", "Neurons removed at once before the slow-down.", 5)
    slow_step: int = setting("Compression", "Neurons removed at once after it.", 1)
    min_dim: int = setting("Compression", "Never fewer latent neurons than this.", SMALLEST_DIM)
    shrunk_layers: str = setting(
        "Compression", "After the first removal, heads and reader: trained or frozen.", "trained"
    )
    stop: bool = setting("Compression", "Stop where the rule says; or go on and record where it would have.", True)
    threshold_recon_loss: float = setting(
        "Compression",
        "Stop only where recon_loss rises by more than this an epoch; less favours reconstruction.",
        0.0,
    )
    threshold_silhouette: float = setting(
        "Compression", "The same for the Silhouette score; more favours clustering.", 0.0
    )
    threshold_fid_recon: float = setting("Compression", "The same for fid_recon; less favours reconstruction.", 0.0)
    threshold_fid_gen: float = setting("Compression", "The same for fid_gen. -inf takes a metric out.", 0.0)
    fid_features: str = setting(
        "Metrics", "Behind the Fréchet distances: inception (the FID), classifier, pca or none."
    )
    fid_samples: int = setting("Metrics", "Samples behind each Fréchet distance.", 500)
    fid_precision: str = setting("Metrics", "Inception computes in float32, bfloat16 or float16.", "float32")
    silhouette_samples: int = setting("Metrics", "Samples behind the Silhouette score.", 500)
    silhouette_on: str = setting("Metrics", "Latent samples, or posterior means.", "samples")
    silhouette_groups: str = setting("Metrics", "K-means clusters, or the true classes.", "clusters")
    metrics_every: int = setting("Metrics", "Measure at every such epoch; divides --patience.", 1)

    def __post_init__(self) -> None:
        """Refuse what makes no sense, naming the option."""
        self._check_names()
        self._check_numbers()
        if self.kind == "adaptive":
            self._check_compression()
        else:
            for name in COMPRESSION:
                if getattr(self, name) != type(self).__dataclass_fields__[name].default:
                    raise ConfigError(name, "means nothing to a model of fixed size; leave it out")
        if self.fid_precision != "float32" and self.fid_features != "inception":
            raise ConfigError("fid_precision", f"means nothing to --fid-features {self.fid_features}; leave it out")

    def _check_compression(self) -> None:
        if self.init_dim < self.min_dim:
            raise ConfigError("init_dim", f"{self.init_dim} is below the smallest size, --min-dim {self.min_dim}")
        rule = self.make_rule()
        if self.patience % self.metrics_every:
            problem = f"must divide --patience {self.patience}, so that every decision has its metrics"
            raise ConfigError("metrics_every", f"{problem}; {self.metrics_every} does not")
        self._check_rule_settings()
        if rule.shortest_window is not None and 2 * self.metrics_every > rule.shortest_window:
            problem = f"{self.metrics_every} leaves fewer than two measured epochs in --window or --slow-window"
            raise ConfigError("metrics_every", problem)
        for metric in set(METRICS) - set(self._available_metrics):
            if getattr(self, f"threshold_{metric}") != 0:
                raise ConfigError(f"threshold_{metric}", "means nothing to --fid-features none; leave it out")

    def _check_rule_settings(self) -> None:
        taken, defaults = rule_settings(self.rule), rule_defaults(self.rule)
        for name in COMPRESSION:
            value, default = getattr(self, name), type(self).__dataclass_fields__[name].default
            if name in taken or value == defaults.get(name, default):
                continue
            if name in defaults:
                problem = f"must be {defaults[name]} with --rule {self.rule}, not {value}; leave it out"
                raise ConfigError(name, problem)
            raise ConfigError(name, f"means nothing to --rule {self.rule}; leave it out")

    def _check_names(self) -> None:
        from aldvae.compression.selection import SELECTIONS

        if self.source is None:
            protocol(self.dataset)
        for option, known in (
            ("network", list(NETWORKS)),
            ("likelihood", list(LIKELIHOODS)),
            ("posterior", list(POSTERIORS)),
            ("select", list(SELECTIONS)),
            ("shrunk_layers", list(SHRUNK_LAYERS)),
            ("fid_features", list(FID_FEATURES)),
            ("fid_precision", list(FID_PRECISIONS)),
            ("precision", list(PRECISIONS)),
            ("silhouette_on", list(SILHOUETTE_ON)),
            ("silhouette_groups", list(SILHOUETTE_GROUPS)),
        ):
            if getattr(self, option) not in known:
                raise unknown_name(option, getattr(self, option), known)

    def _check_numbers(self) -> None:
        least = {"init_dim": SMALLEST_DIM, "epochs": 1, "batch_size": 1, "seed": 0, "clusters": 2, "fid_samples": 2}
        least |= {"metrics_every": 1, "hidden_dim": 1, "channels": 1, "limit": 2, "resize": 1}
        least["silhouette_samples"] = self.clusters + 1
        for name, smallest in least.items():
            value = getattr(self, name)
            if value is not None and value < smallest:
                raise ConfigError(name, f"must be {smallest} or more, not {value}")
        for name in ("init_dim", "hidden_dim", "channels", "batch_size"):
            if (getattr(self, name) or 0) > _LARGEST:
                raise ConfigError(name, f"must be {_LARGEST} or less, not {getattr(self, name)}")
        if not 0 < self.validation < 1:
            raise ConfigError("validation", f"must be between 0 and 1, not {self.validation:g}")
        if not (math.isfinite(self.lr) and self.lr > 0):
            raise ConfigError("lr", f"must be a positive number, not {self.lr:g}")
        if not (math.isfinite(self.beta) and self.beta >= 0):
            raise ConfigError("beta", f"must be zero or a positive number, not {self.beta:g}")

    @property
    def asked_metrics(self) -> tuple[str, ...]:
        """The metrics the rule decides on, but for the KL divergence of each dimension."""
        required = self.make_rule().required_metrics
        return tuple(metric for metric in METRICS if metric in required)

    @property
    def _available_metrics(self) -> tuple[str, ...]:
        return tuple(m for m in METRICS if self.fid_features != "none" or not m.startswith("fid_"))

    def make_rule(self) -> BuiltInRule:
        """Return the rule this run asks for; raises `ConfigError` naming the option that makes no sense."""
        with arguments_as_options():
            chosen = rule_class(self.rule)
            known = [f.name for f in fields(chosen)]
            told = {name: getattr(self, name) for name in known if name != "thresholds"}
            if "thresholds" in known:
                told["thresholds"] = self._thresholds()
            return chosen(**{name: value for name, value in told.items() if value is not None})

    def _thresholds(self) -> dict[str, float]:
        thresholds = {metric: getattr(self, f"threshold_{metric}") for metric in self._available_metrics}
        for metric, threshold in thresholds.items():
            if math.isnan(threshold):
                raise ConfigError(f"threshold_{metric}", "must be a number, not nan")
        return thresholds

    def warnings(self) -> list[str]:
        """Return what is allowed but probably not meant."""
        if self.kind != "adaptive":
            return []
        found, taken = [], rule_settings(self.rule)
        if "window" in taken and self.window > self.epochs:
            found.append(f"--window {self.window} is longer than --epochs {self.epochs}: the rule cannot stop")
        elif self.epochs < self.make_rule().min_epochs:
            found.append(f"--epochs {self.epochs}: too few for a size to settle")
        if "threshold_fid_gen" in taken and self.fid_features == "none":
            found.append(f"--fid-features none: the rule decides without FID, on {' and '.join(self.asked_metrics)}")
        return found

    @property
    def network_settings(self) -> dict[str, Any]:
        """The settings that `models.build.build_vae` takes by these names."""
        names = ("network", "hidden_dim", "channels", "likelihood", "posterior")
        return {name: getattr(self, name) for name in names}

    @property
    def usual_threads(self) -> int | None:
        """The CPU threads that pay: a small network loses more by sharing its work than it gains."""
        return 1 if self.network == "mlp" and (self.hidden_dim or 400) <= 128 else None

    @property
    def name(self) -> str:
        """The run's name, from what it is alone: dataset, kind, size, seed and a hash of all settings."""
        dataset = self.dataset if self.source is None else re.sub(r"\W+", "-", Path(self.dataset).stem)
        return f"{dataset}-{self.kind}-dim{self.init_dim}-seed{self.seed}-{self.digest}"

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of all settings; one at its default is left out, so new ones change no old name."""
        told = {f.name: _plain(getattr(self, f.name)) for f in fields(self) if getattr(self, f.name) != f.default}
        return hashlib.sha256(json.dumps(told, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def command(self) -> str:
        """The command that makes this run, wherever data and results lie."""
        # A model of fixed size is a grid of one.
        spoken = {} if self.kind == "adaptive" else {"init_dim": "dims", "seed": "seeds"}
        words = ["aldvae", "grid" if spoken else "adaptive"]
        # What the rule comes with depends on the rule, and the rule on whose data they are: that is always said.
        usual = {"rule": None, **rule_defaults(self.rule)} if self.kind == "adaptive" else {}
        for declared in settings(RunConfig):
            value, default = getattr(self, declared.name), usual.get(declared.name, declared.default)
            if isinstance(value, bool):
                words += [] if value == default else [flag(declared.name, negative=not value)]
            elif declared.name in spoken or (value is not None and value != default):
                words += [flag(spoken.get(declared.name, declared.name)), str(value)]
        return shlex.join(words)

    def to_json(self) -> dict[str, Any]:
        """Return the settings as JSON can hold them."""
        return {name: _plain(value) for name, value in asdict(self).items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RunConfig:
        """Return the configuration that `to_json` stored."""
        values = dict(stored)
        for name in values:
            if name.startswith("threshold_"):
                values[name] = float(values[name])
        return cls(**values)


def _panel(name: str) -> tuple[str, ...]:
    return tuple(declared.name for declared in settings(RunConfig) if declared.metadata["panel"] == name)


COMPRESSION, MEASUREMENT = _panel("Compression"), _panel("Metrics")


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
