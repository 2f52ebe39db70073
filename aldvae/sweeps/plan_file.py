"""Plan files: several sweeps over several datasets as one TOML file.

::

    title = "What this plan is for"
    reduces = "What it reduces of the paper's protocol, if anything"

    [defaults]                # settings of all runs, by their option names with underscores
    protocol = "paper"        # or authors, recommended: where settings come from that are left out
    fid_features = "classifier"

    [[sweep]]
    kind = "grid"             # adaptive, grid, sweep-init, seeds or match
    datasets = ["mnist", "fashionmnist"]
    dims = [4, 8, 12]         # without it, the paper's for each dataset
    seeds = "0-4"             # a list, or a range
    epochs = 50               # any other setting, for this sweep

A sweep of kind ``match`` trains adaptive models and then, for each seed, a model whose size is fixed at the one found
(the paper, Figure 3).
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from aldvae.config.execution import Execution
from aldvae.config.options import option_fields
from aldvae.config.resolve import Overrides
from aldvae.config.run_config import COMPRESSION_SETTINGS, SECTIONS
from aldvae.runs.results import read_result
from aldvae.sweeps.jobs import KINDS, Job, JobList, distinct, parse_int_list, sweep
from aldvae.utils.errors import AldvaeError, ConfigError, unknown_message, unknown_name

MATCH = "match"
_SETTINGS = [setting.name for setting in option_fields(*SECTIONS) if setting.name not in ("dataset", "seed")]
_KEYS = ["title", "reduces", "defaults", "sweep"]


class PlanError(AldvaeError, ValueError):
    """A plan file that cannot be read or is wrong."""

    exit_code = 2


@dataclass(frozen=True)
class SweepPlan:
    """One ``[[sweep]]`` of a plan: what it varies (None: the defaults of its kind), and what all its runs share."""

    kind: str
    datasets: list[str]
    sizes: list[int] | None
    seeds: list[int] | None
    overrides: Overrides

    def jobs(self, execution: Execution) -> JobList:
        """Return the jobs of all datasets."""
        if self.kind == MATCH:
            parts = [self._match(dataset, execution) for dataset in self.datasets]
            return JobList([job for part in parts for job in part.jobs], sum(part.pending for part in parts))
        sweeps = [
            sweep(self.kind, dataset, self.overrides, execution, sizes=self.sizes, seeds=self.seeds)
            for dataset in self.datasets
        ]
        return JobList([job for jobs in sweeps for job in jobs])

    def _match(self, dataset: str, execution: Execution) -> JobList:
        """Return adaptive runs and, for each that is finished, one of fixed size at the size it ended with."""
        adaptive = sweep("seeds", dataset, self.overrides, execution, seeds=self.seeds)
        fixed = self.overrides.without("init_dim", *COMPRESSION_SETTINGS)
        matched: list[Job] = []
        for job in adaptive:
            result = read_result(execution.results_dir / job.config.name)
            if result is not None and result.summary is not None:
                size, seed = result.summary["latent_dim"], job.config.training.seed
                matched += sweep("grid", dataset, fixed, execution, sizes=[size], seeds=[seed])
        return JobList([*adaptive, *matched], len(adaptive) - len(matched))


@dataclass(frozen=True)
class Plan:
    """A plan: its `title`, what it `reduces` of the paper's protocol (empty: nothing), and its sweeps."""

    name: str
    title: str
    reduces: str
    sweeps: tuple[SweepPlan, ...]

    def jobs(self, execution: Execution) -> JobList:
        """Return all jobs that are known now; those of ``match`` are known when their adaptive run is finished."""
        jobs, pending = list[Job](), 0
        for number, plan in enumerate(self.sweeps, start=1):
            try:
                found = plan.jobs(execution)
            except ConfigError as error:
                raise PlanError(f"{self.name}, sweep {number}: {error}") from error
            jobs, pending = [*jobs, *found.jobs], pending + found.pending
        return JobList(distinct(jobs), pending)


def load_plan(path: Path) -> Plan:
    """Return the plan in the TOML file `path`; raises `PlanError` naming the place that is wrong."""
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}; name a plan file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not TOML: {error}") from error
    sweeps, defaults = content.get("sweep", []), content.get("defaults", {})
    if not isinstance(sweeps, list) or not sweeps or not all(isinstance(s, dict) for s in [*sweeps, defaults]):
        raise PlanError(f"{path.name} lists no [[sweep]]; see experiments/ for plans")
    try:
        _check_keys(content, _KEYS)
        _check_keys(defaults, ["protocol", "seeds", *_SETTINGS])
        _overrides(defaults)
    except (ConfigError, PlanError) as error:
        raise PlanError(f"{path.name}: {error}") from error
    plans = tuple(_parse_sweep(path.name, number, keys, defaults) for number, keys in enumerate(sweeps, start=1))
    return Plan(path.name, str(content.get("title", path.stem)), str(content.get("reduces", "")), plans)


def _parse_sweep(name: str, number: int, keys: Mapping[str, Any], defaults: Mapping[str, Any]) -> SweepPlan:
    try:
        return _sweep_plan(keys, defaults)
    except (ConfigError, PlanError) as error:
        raise PlanError(f"{name}, sweep {number}: {error}") from error


def _sweep_plan(keys: Mapping[str, Any], defaults: Mapping[str, Any]) -> SweepPlan:
    kind = keys.get("kind")
    if kind not in (*KINDS, MATCH):
        raise unknown_name("kind", str(kind), [*KINDS, MATCH])
    sizes = None if kind == MATCH else KINDS[kind].sizes
    names = [name for name in _SETTINGS if name != "init_dim" or sizes is None]
    _check_keys(keys, ["kind", "datasets", "protocol", "seeds", *([sizes] if sizes else []), *names])
    # The compression settings of a whole plan do not concern its models of fixed size.
    shared = {k: v for k, v in defaults.items() if kind != "grid" or k not in COMPRESSION_SETTINGS}
    values = {**shared, **keys}
    return SweepPlan(
        kind=str(kind),
        datasets=_datasets(keys),
        sizes=_parse_ints(sizes, values.get(sizes)) if sizes else None,
        seeds=_parse_ints("seeds", values.get("seeds")),
        overrides=_overrides(values),
    )


def _overrides(keys: Mapping[str, Any]) -> Overrides:
    return Overrides({k: v for k, v in keys.items() if k in _SETTINGS}, _protocol(keys.get("protocol")))


def _check_keys(keys: Mapping[str, Any], allowed: list[str]) -> None:
    for name in keys:
        if name not in allowed:
            is_option = name in ("protocol", "dataset", "seed", *_SETTINGS)
            raise ConfigError(name, "has no place here") if is_option else PlanError(unknown_message(name, allowed))


def _protocol(value: object) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ConfigError("protocol", f"is {value}, not of type str")
    return value


def _datasets(keys: Mapping[str, Any]) -> list[str]:
    datasets = keys.get("datasets")
    if not isinstance(datasets, list) or not datasets or not all(isinstance(name, str) for name in datasets):
        raise ConfigError("datasets", 'must be a list of names, such as ["mnist"]')
    return datasets


def _parse_ints(name: str, value: object) -> list[int] | None:
    """Return the numbers of a list, or of a text as on the command line; None of None."""
    if value is None:
        return None
    return parse_int_list(name, ",".join(map(str, value)) if isinstance(value, list) else str(value))
