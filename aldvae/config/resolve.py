"""From the user's explicit options to a complete configuration: the rest comes from presets, rule and protocol."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType

from aldvae.compression.rules.registry import rule_defaults
from aldvae.config.execution import Execution
from aldvae.config.options import Value
from aldvae.config.presets import PRESETS, RECOMMENDED, Preset, own_data_preset, protocol_settings
from aldvae.config.presets import preset as named_preset
from aldvae.config.rules import arguments_as_options, rule_settings
from aldvae.config.run_config import COMPRESSION_SETTINGS, DEFAULTS, RunConfig
from aldvae.config.sample_counts import count_epochs, settings_from_count
from aldvae.config.setting_types import check_types
from aldvae.config.start import start_from_data
from aldvae.utils.errors import ConfigError


@dataclass(frozen=True)
class Overrides:
    """The settings that a user sets explicitly, and the `protocol` that supplies the others.

    `settings` maps names of settings to values; None means "not set". `protocol` is ``"paper"``, ``"authors"`` or
    ``"recommended"``; None: the dataset's default. Raises `ConfigError` for an unknown name and for a value of another
    type.
    """

    settings: Mapping[str, Value] = field(default_factory=dict)
    protocol: str | None = None

    def __post_init__(self) -> None:
        """Check names and types; drop what is not set."""
        values = {name: value for name, value in self.settings.items() if value is not None}
        object.__setattr__(self, "settings", MappingProxyType(check_types(values)))

    def without(self, *names: str) -> Overrides:
        """Return the same overrides without those named."""
        return Overrides({name: value for name, value in self.settings.items() if name not in names}, self.protocol)


@dataclass(frozen=True)
class DataSource:
    """A dataset, its preset and the number of its samples; for the user's own data also their hash (`source`)."""

    dataset: str
    preset: Preset
    n_samples: int
    source: str | None = None


def own_data(dataset: str) -> Path | None:
    """Return the path of the user's own data if `dataset` is one, None if it is a name.

    An unknown name is a path if it exists, has a suffix, or contains or ends with a slash.
    """
    path = Path(dataset)
    looks_like_path = (
        path.suffix or len(path.parts) > 1 or dataset.endswith("/") or (len(path.name) < 256 and path.exists())
    )
    return path if dataset and dataset not in PRESETS and looks_like_path else None


def find_data(dataset: str, resize: Value = None, execution: Execution | None = None) -> DataSource:
    """Return the preset of a built-in dataset or of the user's own data, which are read for it.

    Raises `ConfigError` for an unknown name and for data that cannot be read.
    """
    path = own_data(dataset)
    if path is None:
        preset = named_preset(dataset)
        from aldvae.data.sources import SOURCES

        return DataSource(dataset, preset, SOURCES[dataset].count)
    from aldvae.data import own

    samples = own.load(path, None if resize is None else int(resize), (execution or Execution()).cache_directory)
    contrast = 0.0 if samples.is_vectors else samples.contrast
    preset = own_data_preset(samples.shape, len(samples.classes), contrast)
    return DataSource(dataset, preset, len(samples), samples.fingerprint)


def resolve(
    kind: str, dataset: str, overrides: Overrides | None = None, execution: Execution | None = None
) -> RunConfig:
    """Return the configuration of an ``"adaptive"`` or ``"fixed"`` run on `dataset`, a name or the path of own data.

    Raises `ConfigError` naming the option that is wrong.
    """
    overrides = overrides or Overrides()
    return configure(kind, find_data(dataset, overrides.settings.get("resize"), execution), overrides, execution)


def configure(kind: str, data: DataSource, overrides: Overrides, execution: Execution | None = None) -> RunConfig:
    """Merge the settings of a run: preset < rule < protocol < number of samples < overrides, where later ones win.

    Under the recommended protocol, the data are read for the size at the start of an adaptive run, unless it is set.
    """
    explicit, protocol = overrides.settings, overrides.protocol or data.preset.protocol
    by_default = {**data.preset.settings, **_rule_and_protocol(kind, data.preset, protocol, explicit)}
    values = {**by_default, **_by_count(data, protocol, explicit), **explicit}
    # What fits one network or likelihood alone goes with it.
    if values["network"] != data.preset.network and "hidden_dim" not in explicit:
        values.pop("hidden_dim", None)
    if values["likelihood"] != "gaussian":
        values = {name: v for name, v in values.items() if name not in ("scale", "standardise") or name in explicit}
    dataset = data.dataset
    if data.source is not None:
        dataset = Path(dataset).absolute().name
        if protocol != RECOMMENDED:
            _require_clusters(data, explicit)
    config = RunConfig.from_settings(kind, {**values, "source": data.source, "dataset": dataset})
    if config.compression is None or protocol != RECOMMENDED or "init_dim" in explicit:
        return config
    start = start_from_data(config.data, own_data(data.dataset), execution or Execution())
    config = config.override(init_dim=max(start.size, config.compression.min_dim))
    return replace(config, data_dimension=start.dimension)


def _rule_and_protocol(
    kind: str, preset: Preset, protocol_name: str, explicit: Mapping[str, Value]
) -> dict[str, Value]:
    """Return the defaults of the rule and the protocol's settings; compression settings only if the rule takes them."""
    protocol = protocol_settings(protocol_name, preset)
    if kind == "fixed":
        return {name: value for name, value in protocol.items() if name not in COMPRESSION_SETTINGS}
    default = protocol.get("rule", DEFAULTS["rule"])
    # The scales of a softmax posterior depend on each other, so that no direction can be judged alone.
    if default == "consolidate" and explicit.get("posterior") == "softmax":
        default = "robust"
    rule = str(explicit.get("rule", default))
    with arguments_as_options():
        supported, defaults = rule_settings(rule), rule_defaults(rule)
    values = {name: value for name, value in protocol.items() if name in supported or name not in COMPRESSION_SETTINGS}
    if explicit.get("stop") is False or explicit.get("shrunk_layers") == "frozen":
        values.pop("curve", None)
    return {**defaults, **values, "rule": rule}


def _by_count(data: DataSource, protocol: str, explicit: Mapping[str, Value]) -> dict[str, Value]:
    """Return the settings that follow the number of samples, under the recommended protocol.

    Of the paper's datasets these are the epochs alone; those of digits were chosen for this protocol.
    """
    if protocol != RECOMMENDED or (data.source is None and data.preset.protocol == RECOMMENDED):
        return {}
    limit = explicit.get("limit")
    n_samples = data.n_samples if limit is None else min(int(limit), data.n_samples)
    batch_size = int(explicit.get("batch_size") or data.preset.batch_size)
    if data.source is None:
        validation = float(explicit.get("validation") or data.preset.validation)
        return {"epochs": count_epochs(round(n_samples * (1 - validation)), batch_size)}
    return settings_from_count(n_samples, data.preset.clusters or 0, {**explicit, "batch_size": batch_size})


def _require_clusters(data: DataSource, explicit: Mapping[str, Value]) -> None:
    if "clusters" not in explicit and (data.preset.clusters or 0) < 2:
        problem = "one class only" if data.preset.clusters else "no labels that tell the number of groups"
        raise ConfigError("clusters", f"is needed: {data.dataset} has {problem}; for example --clusters 10")
