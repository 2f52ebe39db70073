"""A model card: a folder with a model, its settings and the evidence for its size, as the Hugging Face Hub takes it."""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined

import aldvae
from aldvae.metrics.table import METRICS
from aldvae.runs.records import format_cell, json_text
from aldvae.runs.results import MODEL, Result, describe_answer
from aldvae.utils.errors import ConfigError
from aldvae.utils.files import write_atomically

UNKNOWN = "unknown"
# Licences of data among the identifiers that the Hub knows; others are "other", with a name.
_HUB = ("mit", "apache-2.0", "cc0-1.0", "cc", "pddl", "odbl", "gfdl", "gpl-3.0", "etalab-2.0", "cdla-permissive-2.0")
_CREATIVE_COMMONS = r"cc-by(-nc)?(-sa|-nd)?-(2\.0|2\.5|3\.0|4\.0)"
_IMAGES = {
    "overview": "The run: sizes, metrics and latent neurons over the epochs",
    "reconstructions": "Validation samples (above) and their reconstructions (below)",
    "samples": "Samples from the prior",
}


@dataclass(frozen=True)
class Licence:
    """The licence of the data, as the user writes it; None: not known."""

    given: str | None = None

    @property
    def known(self) -> bool:
        """Whether the user told it."""
        return self.given is not None

    @property
    def text(self) -> str:
        """The licence as it was given, or ``unknown``."""
        return self.given or UNKNOWN

    @property
    def identifier(self) -> str:
        """The Hub's identifier: ``cc-by-4.0`` for "CC BY 4.0", ``other`` for a licence that it has none for."""
        if self.given is None:
            return UNKNOWN
        text = self.given.strip().lower().replace(" ", "-")
        return text if text in _HUB or re.fullmatch(_CREATIVE_COMMONS, text) else "other"


def write_card(result: Result, folder: Path, licence: Licence, credit: str = "") -> None:
    """Write the card of a finished run into `folder`: README.md, the model, config.json and the images of the run.

    `credit` is what the data's makers want to be named with. Raises `ConfigError` if the run has no readable model.
    """
    header = result.model_header
    if header is None:
        raise ConfigError("run", f"{result.path / MODEL} is missing or damaged; make the run again")
    images = {name: result.image(name) for name in _IMAGES}
    files = {_IMAGES[name]: file for name, file in images.items() if file is not None}
    templates = Environment(loader=PackageLoader("aldvae.reporting"), undefined=StrictUndefined, autoescape=False)
    content = _content(result, header, licence, credit) | {"images": [(t, f.name) for t, f in files.items()]}
    folder.mkdir(parents=True, exist_ok=True)
    for path in [result.path / MODEL, *files.values()]:
        shutil.copyfile(path, folder / path.name)
    write_atomically(folder / "config.json", _config_text(result))
    write_atomically(folder / "README.md", templates.get_template("model_card.md").render(content) + "\n")


def _config_text(result: Result) -> str:
    """Return config.json: under ``run`` the settings, since ``settings`` would make the folder look like a run."""
    run, answer = result.config.to_json(), result.answer
    return json_text({"library_name": "aldvae", "aldvae": aldvae.__version__, "run": run, "answer": answer})


def _content(result: Result, header: dict[str, object], licence: Licence, credit: str) -> dict[str, object]:
    """Return the variables of the template, but for the images."""
    config, session = result.config, result.sessions[-1] if result.sessions else None
    packages = {} if session is None else {"Python": session["python"], **session["packages"]}
    shape = header["shape"]
    assert isinstance(shape, Sequence)
    return {
        "name": config.name,
        "latent_dim": result.answer["latent_dim"],
        "data": config.data.dataset,
        "version": aldvae.__version__,
        "shape": _describe_shape(shape),
        "columns": header.get("columns", ()),
        "licence": licence,
        "credit": credit,
        "answer": _answer(result),
        "metrics": _metrics(result),
        "decisions": _decisions(result),
        "command": config.command,
        "settings": _table(("setting", "value"), config.to_json().items()),
        "versions": ", ".join(f"{name} {version}" for name, version in packages.items()) or "unknown versions",
        "system": "an unknown system" if session is None else f"{session['system']}, {session['device']}",
    }


def _describe_shape(shape: Sequence[int]) -> str:
    """Return what the samples are; `shape` has channels first."""
    if len(shape) == 1:
        return f"vectors of {shape[0]} values"
    channels, *sides = shape
    kind = "images" if len(sides) == 2 else "videos (frames first)"
    return f"{kind} of {' x '.join(map(str, sides))} with {channels} channel{'s' if channels > 1 else ''}"


def _answer(result: Result) -> str:
    """Return the size, where it comes from and how sure it is, as sentences."""
    config, answer = result.config, result.answer
    size = f"The model has {answer['latent_dim']} latent dimensions"
    if config.compression is None:
        return f"{size}, a size that was set, not found."
    text = f"{size}; the run started with {config.model.init_dim} and used the rule `{config.rule}`."
    if "n_informative" in answer:
        return f"{text} {describe_answer(answer)}."
    if answer["stop_epoch"] is None:
        return f"{text} The rule did not stop within {answer['epochs']} epochs: this size was reached, not found."
    found = f"The rule stopped at epoch {answer['stop_epoch']} of {answer['epochs']}"
    return f"{text} {found}, at {answer['stop_latent_dim']} dimensions."


def _metrics(result: Result) -> str:
    final = result.answer["final"]
    rows = [(m.title_with_unit, format_cell(final[m.name])) for m in METRICS.values() if final.get(m.name) is not None]
    features = f"Fréchet distances use {final.get('fid_features')} features."
    return _table(("metric", "value"), rows) + (f"\n\n{features}" if final.get("fid_gen") is not None else "")


def _decisions(result: Result) -> str:
    """Return a table of the decisions that changed something; empty if there are none."""
    rows = result.decisions[result.decisions["action"] != "keep"]
    columns = ("epoch", "latent_dim", "action", "reason")
    return _table(columns, rows[list(columns)].itertuples(index=False)) if len(rows) else ""


def _table(columns: Sequence[str], rows: Iterable[Iterable[object]]) -> str:
    lines = [columns, ["---"] * len(columns), *([_cell(value) for value in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _cell(value: object) -> str:
    return "" if value is None or value != value else str(value).replace("|", "\\|").replace("\n", " ")
