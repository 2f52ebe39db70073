"""What a run is: a frozen, checked set of settings. How and where it is executed is kept apart (see `Execution`)."""

from __future__ import annotations

import hashlib
import json
import math
import re
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from aldvae.compression.rules.registry import BuiltInRule, rule_class, rule_defaults
from aldvae.compression.rules.slopes import RULE_METRICS
from aldvae.config.options import Value, flag, option_fields
from aldvae.config.presets import changed_settings
from aldvae.config.rules import arguments_as_options, rule_settings
from aldvae.config.sections import CompressionConfig, DataConfig, MetricsConfig, ModelConfig, TrainingConfig
from aldvae.utils.errors import ConfigError

# The sections in the order of config.json.
SECTIONS = (DataConfig, ModelConfig, TrainingConfig, CompressionConfig, MetricsConfig)
_NAMES = {section: tuple(f.name for f in fields(section)) for section in SECTIONS}
# Every setting with its default; MISSING where a preset must give the value.
DEFAULTS: Mapping[str, Any] = {f.name: f.default for section in SECTIONS for f in fields(section)}
# Of these, the settings that version 0.1.0 did not have.
ADDED_DEFAULTS: Mapping[str, Value] = {
    f.name: DEFAULTS[f.name] for f in option_fields(*SECTIONS) if f.metadata["added"] is not None
}
COMPRESSION_SETTINGS, METRICS_SETTINGS = _NAMES[CompressionConfig], _NAMES[MetricsConfig]


@dataclass(frozen=True, kw_only=True)
class RunConfig:
    """Everything that decides a run's numbers; two runs with equal configurations give equal results.

    Only with `precision` ``"auto"`` the machine has a say; the summary then tells the precision that was used.
    `compression` is None for a model of fixed size. `data_dimension` is no setting, but tells where `init_dim` comes
    from: the estimated dimension of the data; None if it was set. Raises `ConfigError` naming the option that is wrong.
    """

    data: DataConfig
    model: ModelConfig
    training: TrainingConfig
    metrics: MetricsConfig
    compression: CompressionConfig | None = None
    data_dimension: float | None = field(default=None, compare=False)

    @classmethod
    def from_settings(cls, kind: str, values: Mapping[str, Any]) -> RunConfig:
        """Return an ``"adaptive"`` or ``"fixed"`` configuration with these settings, by name.

        Settings that are left out take their defaults. Raises `TypeError` for an unknown name and for one without
        default that is missing, `ConfigError` for a compression setting of a model of fixed size.
        """
        if kind not in ("adaptive", "fixed"):
            raise TypeError(f"{kind} is no kind of run; use adaptive or fixed")
        if unknown := set(values) - set(DEFAULTS):
            raise TypeError(f"unknown settings: {', '.join(sorted(unknown))}")
        if kind == "fixed":
            for name in COMPRESSION_SETTINGS:
                if (value := values.get(name, DEFAULTS[name])) != DEFAULTS[name]:
                    option = flag(name, negative=value is False)
                    raise ConfigError(option, "has no effect with a model of fixed size; remove it")
        data, model, training, compression, metrics = (
            {name: values[name] for name in names if name in values} for names in _NAMES.values()
        )
        return cls(
            data=DataConfig(**data),
            model=ModelConfig(**model),
            training=TrainingConfig(**training),
            metrics=MetricsConfig(**metrics),
            compression=CompressionConfig(**compression) if kind == "adaptive" else None,
        )

    def __post_init__(self) -> None:
        """Check what concerns several sections."""
        self._check_silhouette()
        if self.compression is not None:
            self._check_compression(self.compression)

    def _check_silhouette(self) -> None:
        clusters, metrics = self.data.clusters, self.metrics
        if clusters is None:
            for name in ("silhouette_samples", "silhouette_on", "silhouette_groups"):
                if getattr(metrics, name) != DEFAULTS[name]:
                    raise ConfigError(name, "has no effect without clusters; add --clusters, for example 10")
        elif metrics.silhouette_samples <= clusters:
            problem = f"must be {clusters + 1} or more, not {metrics.silhouette_samples}"
            raise ConfigError("silhouette_samples", problem)

    def _check_compression(self, compression: CompressionConfig) -> None:
        if self.data.clusters is None and "silhouette" in compression.rule_class().required_metrics:
            problem = f"is needed: --rule {compression.rule} decides on the Silhouette score; for example --clusters 10"
            raise ConfigError("clusters", problem)
        if self.model.init_dim < compression.min_dim:
            problem = f"{self.model.init_dim} is below the smallest size, --min-dim {compression.min_dim}"
            raise ConfigError("init_dim", problem)
        window, every = self.make_rule().shortest_window, self.metrics.metrics_every
        if "patience" in rule_settings(compression.rule) and compression.patience % every:
            problem = f"must divide --patience {compression.patience}, so that every decision has its metrics"
            raise ConfigError("metrics_every", f"{problem}; {every} does not")
        self._check_rule_settings(compression.rule)
        if compression.rule_class.consolidates and self.model.posterior == "softmax":
            problem = (
                "softmax ties the scales of all dimensions, so no direction stands alone; use --rule robust with it"
            )
            raise ConfigError("posterior", problem)
        if window is not None and 2 * every > window:
            problem = f"{every} leaves fewer than two measured epochs in --window or --slow-window"
            raise ConfigError("metrics_every", problem)
        self._check_curve(compression)
        for metric in set(RULE_METRICS) - set(self._available_metrics):
            if getattr(compression, f"threshold_{metric}") != 0:
                raise ConfigError(f"threshold_{metric}", "has no effect with --fid-features none; remove it")

    def _check_curve(self, compression: CompressionConfig) -> None:
        if (compression.curve_epochs or 0) > max(1, self.training.epochs // 2):
            problem = f"{compression.curve_epochs} is more than half of --epochs {self.training.epochs}"
            raise ConfigError("curve_epochs", f"{problem}, which is what a curve may cost")
        if compression.favour == "generation" and self.metrics.fid_features == "none":
            raise ConfigError("favour", "generation needs Fréchet distances, not --fid-features none")
        if compression.favour == "clustering" and self.data.clusters is None:
            raise ConfigError("favour", "clustering needs clusters; add --clusters, for example 10")

    def _check_rule_settings(self, rule: str) -> None:
        supported, defaults = rule_settings(rule), rule_defaults(rule)
        for name in COMPRESSION_SETTINGS:
            value = self.settings[name]
            if name in supported or value == defaults.get(name, DEFAULTS[name]):
                continue
            if name in defaults:
                raise ConfigError(name, f"must be {defaults[name]} with --rule {rule}, not {value}; remove it")
            raise ConfigError(flag(name, negative=value is False), f"has no effect with --rule {rule}; remove it")

    @property
    def kind(self) -> str:
        """``"adaptive"``, or ``"fixed"`` for a model whose size stays `init_dim`."""
        return "fixed" if self.compression is None else "adaptive"

    @property
    def rule(self) -> str | None:
        """The name of the rule; None for a model of fixed size."""
        return None if self.compression is None else self.compression.rule

    @property
    def supports_no_stop(self) -> bool:
        """Whether the same run with ``--no-stop`` exists: its rule can continue after its stop."""
        return self.compression is not None and self.compression.rule_class.supports_no_stop

    @cached_property
    def settings(self) -> dict[str, Value]:
        """All settings by name, in the order of config.json; without compression, its settings have their defaults."""
        sections = (self.data, self.model, self.training, self.compression, self.metrics)
        return {
            name: DEFAULTS[name] if section is None else getattr(section, name)
            for section, names in zip(sections, _NAMES.values(), strict=True)
            for name in names
        }

    def override(self, **values: Value) -> RunConfig:
        """Return the same configuration with other values for some settings."""
        config = RunConfig.from_settings(self.kind, {**self.settings, **values})
        return replace(config, data_dimension=self.data_dimension) if "init_dim" not in values else config

    @property
    def rule_metrics(self) -> tuple[str, ...]:
        """The metrics the rule decides on, except the KL divergence of each dimension."""
        required = self.make_rule().required_metrics
        return tuple(metric for metric in RULE_METRICS if metric in required)

    @property
    def _available_metrics(self) -> tuple[str, ...]:
        return tuple(m for m in RULE_METRICS if self.metrics.fid_features != "none" or not m.startswith("fid_"))

    def make_rule(self) -> BuiltInRule:
        """Return the rule of an adaptive run; raises `ConfigError` naming the option that is wrong."""
        with arguments_as_options():
            rule = rule_class(str(self.settings["rule"]))
            names = {f.name for f in fields(rule)}
            values = {name: self.settings[name] for name in names - {"thresholds"} if self.settings[name] is not None}
            arguments: dict[str, Any] = dict(values, thresholds=self._thresholds()) if "thresholds" in names else values
            return rule(**arguments)

    def _thresholds(self) -> dict[str, float]:
        thresholds = {metric: float(self.settings[f"threshold_{metric}"] or 0) for metric in self._available_metrics}
        for metric, threshold in thresholds.items():
            if math.isnan(threshold):
                raise ConfigError(f"threshold_{metric}", "must be a number, not nan")
        return thresholds

    def notes(self) -> list[str]:
        """Return lines for the start of a run: where its size comes from, and settings that are probably a mistake."""
        if self.compression is None:
            return []
        found, epochs, rule = list[str](), self.training.epochs, self.make_rule()
        if self.data_dimension is not None:
            start = f"it starts with {self.model.init_dim} dimensions"
            found.append(f"{start}, as the data have about {self.data_dimension:.1f}; --init-dim overrides this")
        if epochs < rule.min_epochs:
            found.append(f"--epochs {epochs}: --rule {self.rule} cannot stop before epoch {rule.min_epochs}")
        if set(self.compression.rule_class().required_metrics) - set(rule.required_metrics):
            found.append(f"--fid-features none: the rule decides without FID, on {' and '.join(self.rule_metrics)}")
        return found

    @property
    def network_settings(self) -> dict[str, Any]:
        """The settings that `models.build.build_vae` takes by these names, left out as in `to_json`."""
        names = ("network", "hidden_dim", "channels", "likelihood", "scale", "posterior")
        return _without_added_defaults({name: getattr(self.model, name) for name in names})

    @property
    def name(self) -> str:
        """The run's name: dataset, kind, size, seed and a hash of all settings; never a clock or a counter."""
        dataset = self.data.dataset
        if self.data.source is not None:
            dataset = re.sub(r"\W+", "-", Path(dataset).stem)
        return f"{dataset}-{self.kind}-dim{self.model.init_dim}-seed{self.training.seed}-{self.digest}"

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits of all settings but those at their defaults: a new setting keeps old names."""
        changed = {name: _plain(value) for name, value in self.settings.items() if value != DEFAULTS[name]}
        return hashlib.sha256(json.dumps({"kind": self.kind, **changed}, sort_keys=True).encode()).hexdigest()[:8]

    @property
    def command(self) -> str:
        """The command that makes this run, without the paths of data and results."""
        # A model of fixed size is a grid of one.
        renamed = {} if self.compression else {"init_dim": "dims", "seed": "seeds"}
        words = ["aldvae", "adaptive" if self.compression else "grid"]
        # Other defaults depend on the rule, so `--rule` is always written out.
        defaults = {**DEFAULTS, **({"rule": None, **rule_defaults(self.compression.rule)} if self.compression else {})}
        # The default protocol may be another than the paper's, so what it changes is always written out, too.
        written = set(COMPRESSION_SETTINGS) - ({"curve"} if self.compression else set())
        changed = changed_settings(self.data.dataset, self.data.source) - written
        defaults |= dict.fromkeys(changed)
        for setting in option_fields(*SECTIONS):
            name, value = setting.name, self.settings[setting.name]
            if isinstance(value, bool):
                words += [] if value == defaults[name] else [flag(name, negative=not value)]
            elif name in renamed or (value is not None and value != defaults[name]):
                words += [flag(renamed.get(name, name)), str(value)]
        return shlex.join(words)

    def to_json(self) -> dict[str, Value]:
        """Return the settings as one flat JSON object; infinite numbers become text.

        Settings that version 0.1.0 did not have are left out at their defaults.
        """
        return {"kind": self.kind, **_without_added_defaults(self._plain_settings)}

    def differences(self, stored: Mapping[str, object]) -> list[str]:
        """Return the names of the settings that differ from those of a run that `to_json` stored.

        A setting that `stored` lacks does not differ, except one that `to_json` leaves out at its default.
        """
        complete = {**ADDED_DEFAULTS, **stored}
        current = {"kind": self.kind, **self._plain_settings}
        return [name for name, value in current.items() if complete.get(name, value) != value]

    @property
    def _plain_settings(self) -> dict[str, Value]:
        return {name: _plain(value) for name, value in self.settings.items()}

    @classmethod
    def from_json(cls, stored: Mapping[str, Any]) -> RunConfig:
        """Return the configuration that `to_json` stored; raises as `from_settings` does."""
        values = {name: float(v) if name.startswith("threshold_") else v for name, v in stored.items()}
        kind = str(values.pop("kind"))
        return cls.from_settings(kind, values)


def _without_added_defaults(values: Mapping[str, Value]) -> dict[str, Value]:
    return {name: v for name, v in values.items() if name not in ADDED_DEFAULTS or v != ADDED_DEFAULTS[name]}


def _plain(value: Value) -> Value:
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
