"""The run directory: what a run leaves behind, written so that a kill at any moment loses nothing.

======================  ================================================================================
``config.json``         the resolved settings, and what the data and features were
``provenance.json``     the command, versions and hardware of every session that worked on the run
``metrics.csv``         one row per epoch
``latent.csv``          KL divergence of each latent neuron, one row per epoch and neuron
``decisions.csv``       what the rule saw and decided, one row per decision
``times.csv``           seconds of training and of metrics, one row per epoch
``checkpoint.pt``       where an unfinished run resumes
``summary.json``        the answer; its presence marks the run as finished
``model.safetensors``   the compressed model
``overview.png``        the run as a picture
======================  ================================================================================
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout

from aldvae.compression.rules import METRICS
from aldvae.config import RunConfig
from aldvae.errors import ConfigError
from aldvae.files import rounded, write_atomically

COLUMNS: dict[str, tuple[str, ...]] = {
    "metrics": (
        "epoch",
        "latent_dim",
        "train_loss",
        "recon_loss",
        "kl",
        "silhouette",
        "fid_recon",
        "fid_gen",
        "active_units",
        "dims_active",
        "dims_mixed",
        "dims_passive",
        "cluster_accuracy",
        "nmi",
        "ari",
        "fid_features",
        "fid_samples",
    ),
    "latent": ("epoch", "neuron", "kl"),
    "decisions": (
        "epoch",
        "latent_dim",
        "action",
        "removed",
        *(f"slope_{metric}" for metric in METRICS),
        "reason",
    ),
    "times": ("epoch", "train_seconds", "metrics_seconds"),
}


class RunDirectory:
    """One run's directory under `results_dir`, named by what the run is."""

    def __init__(self, results_dir: Path, config: RunConfig) -> None:
        """Nothing is read or written yet."""
        self.path = results_dir / config.name
        self.config = config
        self._tables = dict.fromkeys(COLUMNS, "")

    @property
    def finished(self) -> bool:
        """Whether the run has left its summary."""
        return (self.path / "summary.json").exists()

    def check(self, inputs: Mapping[str, str] | None = None) -> None:
        """Raise `ConfigError` if the directory holds another run: other settings, or other `inputs` where given."""
        stored = self._stored()
        if stored is None:
            if (self.path / "metrics.csv").exists():
                raise ConfigError("results_dir", f"{self.path} holds results but no config.json; move it away")
            return
        settings, stored_inputs = stored
        other = [name for name, value in self.config.to_json().items() if settings.get(name, value) != value]
        if inputs is not None:
            other += [name for name, value in inputs.items() if stored_inputs.get(name) != value]
        if other:
            raise ConfigError(
                "results_dir",
                f"{self.path} holds a run with another {', '.join(other)}; move it away or name another --results-dir",
            )

    def _stored(self) -> tuple[dict[str, Any], dict[str, Any]] | None:
        path = self.path / "config.json"
        try:
            stored = json.loads(path.read_text())
            return dict(stored["settings"]), dict(stored["inputs"])
        except (FileNotFoundError, NotADirectoryError):
            return None
        except (OSError, ValueError, KeyError, TypeError) as error:
            problem = f"{path} cannot be read; move {self.path} away or name another --results-dir"
            raise ConfigError("results_dir", problem) from error

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes out of the directory; the system frees the lock of a process that dies.

        Raises `ConfigError` where another process is at work on the run, or the directory cannot be written.
        """
        lock = FileLock(self.path / ".lock", timeout=0)
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire()
        except Timeout as error:
            problem = f"{self.path} is being worked on by another process; wait for it, or stop it"
            raise ConfigError("results_dir", problem) from error
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError("results_dir", f"{self.path} cannot be written: {error.strerror or error}")

    def begin(self, inputs: Mapping[str, str], session: Mapping[str, Any]) -> dict[str, Any] | None:
        """Make the directory; write down settings and `inputs`, and add this `session` to the provenance.

        Returns the session before it, None for the first. Raises `ConfigError` where the directory cannot be written.
        """
        try:
            path = self.path / "provenance.json"
            config = {"settings": self.config.to_json(), "inputs": dict(inputs)}
            write_atomically(self.path / "config.json", _json(config))
            earlier = json.loads(path.read_text())["sessions"] if path.exists() else []
            provenance = {"command": self.config.command, "sessions": [*earlier, dict(session)]}
            write_atomically(path, _json(provenance))
            return earlier[-1] if earlier else None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError("results_dir", f"{path} is damaged; delete it") from error
        except OSError as error:
            raise self._unwritable(error) from error

    def restore_tables(self, tables: Mapping[str, str]) -> None:
        """Make all tables what `tables` says (as `tables_text` gave it); empty ones get their header alone.

        Rows that a killed process wrote after its last checkpoint are cut off: they will be made again, the same.
        """
        for name, columns in COLUMNS.items():
            self._tables[name] = tables.get(name) or _csv([columns])
            write_atomically(self.path / f"{name}.csv", self._tables[name])

    @property
    def tables_text(self) -> dict[str, str]:
        """The full text of every table, for the checkpoint."""
        return dict(self._tables)

    def append(self, table: str, rows: Iterable[Mapping[str, Any]]) -> None:
        """Append `rows` to a table of `COLUMNS` and flush; a column a row lacks stays empty."""
        text = _csv([[_cell(row.get(column, "")) for column in COLUMNS[table]] for row in rows])
        self._tables[table] += text
        with (self.path / f"{table}.csv").open("a", newline="") as file:
            file.write(text)

    def rows(self, table: str) -> list[dict[str, str]]:
        """Return the rows of a table of this session and those it resumed from."""
        return list(csv.DictReader(io.StringIO(self._tables[table])))

    def save_checkpoint(self, content: bytes) -> None:
        """Replace the checkpoint."""
        write_atomically(self.path / "checkpoint.pt", content)

    def load_checkpoint(self) -> bytes | None:
        """Return the checkpoint's content, None where there is none."""
        path = self.path / "checkpoint.pt"
        return path.read_bytes() if path.exists() else None

    def finish(self, summary: Mapping[str, Any], model: bytes) -> None:
        """Write the model, then the summary, which marks the run as finished; drop the checkpoint."""
        write_atomically(self.path / "model.safetensors", model)
        write_atomically(self.path / "summary.json", _json(summary))
        (self.path / "checkpoint.pt").unlink(missing_ok=True)

    def summary(self) -> dict[str, Any]:
        """Return the summary of a finished run."""
        path = self.path / "summary.json"
        try:
            summary: dict[str, Any] = json.loads(path.read_text())
        except ValueError:
            summary = {}
        if "latent_dim" not in summary:
            raise ConfigError("results_dir", f"{path} is damaged; delete it to have the run done again")
        return summary


def _cell(value: Any) -> str:
    return repr(rounded(value)) if isinstance(value, float) else str(value)


def _csv(rows: Iterable[Iterable[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()


def _json(content: Any) -> str:
    return json.dumps(content, indent=2) + "\n"
