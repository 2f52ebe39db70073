"""From what the user said to a complete configuration: the rest comes from the protocol."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from aldvae.compression.rules.registry import rule_defaults
from aldvae.config.execution import Execution
from aldvae.config.presets import PAPER, PROTOCOLS, Protocol, differences, own_protocol, protocol
from aldvae.config.rules import arguments_as_options, rule_settings
from aldvae.config.run_config import COMPRESSION, RunConfig
from aldvae.utils.errors import ConfigError


def own_data(dataset: str) -> Path | None:
    """Return the path of the user's own data if `dataset` is one, None if it is a name.

    What is no known name is a path if it is there, has a suffix, or names a folder it lies in.
    """
    path = Path(dataset)
    looks_like_one = path.suffix or len(path.parts) > 1 or (len(path.name) < 256 and path.exists())
    return path if dataset and dataset not in PROTOCOLS and looks_like_one else None


def resolve(kind: str, dataset: str, execution: Execution | None = None, **given: Any) -> RunConfig:
    """Return the configuration of a run: what is `given` and not None, else the dataset's protocol.

    A `protocol` among the given, ``"paper"`` or ``"authors"``, says where the rest comes from; see `configure`.
    The user's own data are read here, since their shape and labels decide; raises `ConfigError` as reading them does.
    """
    known, source = protocol_of(dataset, given.get("resize"), execution)
    return configure(kind, dataset, known, source, **given)


def protocol_of(
    dataset: str, resize: int | None = None, execution: Execution | None = None
) -> tuple[Protocol, str | None]:
    """Return the protocol of a dataset known by name or of the user's own, and for the latter a hash of its samples."""
    path = own_data(dataset)
    if path is None:
        return protocol(dataset), None
    from aldvae.data import own

    samples = own.load(path, resize, (execution or Execution()).cache_directory)
    return own_protocol(samples.shape, len(samples.classes)), samples.fingerprint


def configure(
    kind: str, dataset: str, known: Protocol, source: str | None, protocol: str | None = None, **given: Any
) -> RunConfig:
    """Return a configuration on `dataset`, of which `protocol_of` told the protocol `known` and the `source`.

    What is not given comes from `known`, and with the authors' `protocol` from their code where that differs.
    """
    told = differences(PAPER if protocol is None else protocol)
    chosen = {name: value for name, value in given.items() if value is not None}
    if source is not None:
        if "clusters" not in chosen and (known.clusters or 0) < 2:
            what = "one class only" if known.clusters else "no labels that tell the number of groups"
            raise ConfigError("clusters", f"is needed: {dataset} has {what}; for example --clusters 10")
        dataset = Path(dataset).absolute().name
    usual = {name: getattr(known, name) for name in _FROM_PROTOCOL if getattr(known, name) is not None}
    if "network" in chosen and chosen["network"] != known.network:
        usual.pop("hidden_dim", None)
    if kind == "adaptive":
        rule = chosen.setdefault("rule", known.rule if protocol is None else told.get("rule", PAPER))
        with arguments_as_options():
            usual |= rule_defaults(rule)
    # The preset's compression settings apply only to adaptive runs, and there only those that the rule takes.
    taken = rule_settings(chosen["rule"]) if kind == "adaptive" else set()
    usual |= {name: value for name, value in told.items() if name in taken or name not in COMPRESSION}
    return RunConfig(kind=kind, source=source, dataset=dataset, **{"init_dim": known.init_dims[0], **usual, **chosen})


_FROM_PROTOCOL = (
    "validation",
    "clusters",
    "network",
    "hidden_dim",
    "likelihood",
    "epochs",
    "batch_size",
    "fid_features",
)
