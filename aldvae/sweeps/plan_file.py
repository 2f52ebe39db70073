"""Plan files: several sweeps over several datasets as one TOML file.

::

    title = "What this plan is for"
    reduces = "What it reduces of the paper's protocol, if anything"

    [defaults]                # settings of all runs, by their option names with underscores
    protocol = "paper"        # or authors: as in the code of the paper's authors, where nothing else is said
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

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, get_type_hints

from aldvae.config.execution import Execution
from aldvae.config.options import settings
from aldvae.config.run_config import COMPRESSION, RunConfig
from aldvae.sweeps.jobs import KINDS, Job, JobList, distinct, numbers, sweep
from aldvae.utils.errors import AldvaeError, ConfigError, unknown_message, unknown_name

MATCH = "match"
_HINTS = {**get_type_hints(RunConfig), "protocol": str}
_SETTINGS = ["protocol", *(s.name for s in settings(RunConfig) if s.name not in ("dataset", "seed"))]
_KEYS = frozenset(("title", "reduces", "defaults", "sweep"))
_LISTS = ("dims", "init_dims", "seeds")


class PlanError(AldvaeError, ValueError):
    """A plan file that cannot be read or makes no sense."""

    exit_code = 2


@dataclass(frozen=True)
class Plan:
    """A plan: its `title`, what it `reduces` of the paper's protocol (empty: nothing), and its sweeps' keys."""

    name: str
    title: str
    reduces: str
    sweeps: tuple[Mapping[str, Any], ...]

    def runs(self, execution: Execution) -> JobList:
        """Return all runs that are known now; those of ``match`` are known when their adaptive run is finished."""
        found, pending = list[Job](), 0
        for number, keys in enumerate(self.sweeps, start=1):
            try:
                runs = _runs(keys, execution)
            except ConfigError as error:
                raise PlanError(f"{self.name}, sweep {number}: {error}") from error
            found, pending = [*found, *runs.jobs], pending + runs.pending
        return JobList(distinct(found), pending)


def load_plan(path: Path) -> Plan:
    """Return the plan in the TOML file `path`; raises `PlanError` naming the place that makes no sense."""
    try:
        content = tomllib.loads(path.read_text())
    except OSError as error:
        raise PlanError(f"{path} cannot be read: {error.strerror}; name a plan file") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise PlanError(f"{path} is not TOML: {error}") from error
    sweeps, defaults = content.get("sweep", []), content.get("defaults", {})
    if not isinstance(sweeps, list) or not sweeps or not all(isinstance(s, dict) for s in [*sweeps, defaults]):
        raise PlanError(f"{path.name} lists no [[sweep]]; see experiments/ for plans")
    for key in set(content) - _KEYS:
        raise PlanError(f"{path.name}: {unknown_message(key, list(_KEYS))}")
    try:
        _check(defaults, [*_SETTINGS, "seeds"])
        told = [_with_defaults(keys, defaults) for keys in sweeps]
    except (ConfigError, PlanError) as error:
        raise PlanError(f"{path.name}: {error}") from error
    return Plan(path.name, str(content.get("title", path.stem)), str(content.get("reduces", "")), tuple(told))


def _with_defaults(keys: Mapping[str, Any], defaults: Mapping[str, Any]) -> dict[str, Any]:
    kind = keys.get("kind")
    if kind not in (*KINDS, MATCH):
        raise unknown_name("kind", str(kind), [*KINDS, MATCH])
    sizes = KINDS[kind].sizes if kind != MATCH else None
    lists = [name for name in _LISTS if name in ("seeds", sizes)]
    _check(keys, ["kind", "datasets", *lists, *(name for name in _SETTINGS if name != "init_dim" or not sizes)])
    # What a whole plan says of compression means nothing to its models of fixed size.
    fitting = {k: v for k, v in defaults.items() if kind != "grid" or k not in COMPRESSION}
    return {**fitting, **keys}


def _check(keys: Mapping[str, Any], known: list[str]) -> None:
    for name, value in keys.items():
        if name not in known:
            raise ConfigError(name, "has no place here") if name in _HINTS else PlanError(unknown_message(name, known))
        if name in _HINTS and name != "kind":
            _check_type(name, value, _HINTS[name])


def _check_type(name: str, value: Any, hint: Any) -> None:
    kinds = [kind for kind in (bool, int, float, str) if kind in (hint, *getattr(hint, "__args__", ()))]
    fits = type(value) in kinds or (float in kinds and type(value) is int)
    if not fits:
        raise ConfigError(name, f"is {json.dumps(value, default=str)}, not of type {kinds[0].__name__}")


def _runs(keys: Mapping[str, Any], execution: Execution) -> JobList:
    given = {name: value for name, value in keys.items() if name in _SETTINGS}
    given |= {name: float(value) for name, value in given.items() if _HINTS[name] is float}
    lists = {name: _numbers(name, keys[name]) for name in _LISTS if name in keys}
    seeds = lists.get("seeds")
    if keys["kind"] == MATCH:
        parts = [_match(dataset, execution, seeds, given) for dataset in _datasets(keys)]
        return JobList([job for part in parts for job in part.jobs], sum(part.pending for part in parts))
    sizes = lists.get("dims") or lists.get("init_dims")
    sweeps = [sweep(keys["kind"], name, execution, sizes=sizes, seeds=seeds, **given) for name in _datasets(keys)]
    return JobList([job for jobs in sweeps for job in jobs])


def _match(dataset: str, execution: Execution, seeds: list[int] | None, given: dict[str, Any]) -> JobList:
    """Return adaptive runs and, for those that are finished, one of fixed size at the size each ended with."""
    from aldvae.runs.results import read_result

    adaptive = sweep("seeds", dataset, execution, seeds=seeds, **given)
    fixed = {k: v for k, v in given.items() if k not in COMPRESSION and k != "init_dim"}
    found: list[Job] = []
    for job in adaptive:
        result = read_result(execution.results_dir / job.config.name)
        if result is not None and result.summary is not None:
            size = result.summary["latent_dim"]
            found += sweep("grid", dataset, execution, sizes=[size], seeds=[job.config.seed], **fixed)
    return JobList([*adaptive, *found], len(adaptive) - len(found))


def _datasets(keys: Mapping[str, Any]) -> list[str]:
    datasets = keys.get("datasets")
    if not isinstance(datasets, list) or not datasets or not all(isinstance(name, str) for name in datasets):
        raise ConfigError("datasets", 'must be a list of names, such as ["mnist"]')
    return datasets


def _numbers(name: str, value: Any) -> list[int]:
    """Return the numbers of a list, or of a text as on the command line."""
    return numbers(name, ",".join(map(str, value)) if isinstance(value, list) else str(value))
