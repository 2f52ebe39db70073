"""The run directory: the files of one run, written so that a kill at any moment loses no finished epoch.

======================  ================================================================================
``config.json``         the resolved settings, and the identity of the data and features
``provenance.json``     the command, versions and hardware of every session that worked on the run
``metrics.csv``         one row per epoch
``latent.csv``          KL divergence of each latent neuron, one row per epoch and neuron
``decisions.csv``       the slopes the rule saw and what it decided, one row per decision
``times.csv``           seconds of training and of metrics, one row per epoch
``curve.csv``           the metrics of smaller sizes, one row per size, in runs with a curve
``checkpoint.pt``       where an unfinished run resumes; ``checkpoint.previous.pt``: one epoch earlier
``curve.pt``            where an unfinished curve resumes
``failure.txt``         why the last attempt failed, with its traceback
``summary.json``        the answer; its presence marks the run as finished
``model.safetensors``   the compressed model
``sizes``               the models of the curve, if they are to be kept
``reconstructions``     images by the model (.png, .gif for video); so are ``samples`` and ``traversal``
``latent_space.csv``    posterior means projected to two dimensions, with class and cluster
``overview.png``        sizes, metrics and latent neurons over epochs
``curve.png``           metrics over sizes, in runs with a curve
``report.html``         the answer and all its evidence as one page
======================  ================================================================================
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from aldvae.config.run_config import RunConfig
from aldvae.runs.records import COLUMNS, OPTIONAL_TABLES, Session, Summary, csv_rows, csv_text, format_cell, json_text
from aldvae.runs.tables import Table, TableState, restored_text
from aldvae.utils.errors import BusyError, ConfigError
from aldvae.utils.files import write_atomically

CHECKPOINTS = ("checkpoint.pt", "checkpoint.previous.pt")
CURVE_CHECKPOINT = "curve.pt"
FAILURE = "failure.txt"
LOCK = ".lock"


class RunDirectory:
    """The directory of one run under `results_dir`, named by the settings of the run."""

    def __init__(
        self, results_dir: Path, config: RunConfig, on_message: Callable[[str], None] = lambda _: None
    ) -> None:
        """Nothing is read or written yet; `on_message` gets a line when a lock is waited for or a file repaired."""
        self.path = results_dir / config.name
        self.config, self.on_message = config, on_message
        self._tables = {name: self._table(name, "") for name in COLUMNS if name not in OPTIONAL_TABLES}
        self._documents: dict[str, str] = {}

    @classmethod
    def at(cls, path: Path, config: RunConfig) -> RunDirectory:
        """Return the directory `path`, which holds the run `config` and may have been renamed."""
        directory = cls(path.parent, config)
        directory.path = path
        return directory

    def _table(self, name: str, text: str) -> Table:
        return Table(self.path / f"{name}.csv", text)

    @property
    def finished(self) -> bool:
        """Whether the run is finished: its summary is written last."""
        return (self.path / "summary.json").exists()

    def check(self, inputs: Mapping[str, str] | None = None) -> None:
        """Raise `ConfigError` if the directory holds a run with other settings or, if given, with other `inputs`."""
        stored = self._read_config()
        if stored is None:
            if (self.path / "metrics.csv").exists():
                raise ConfigError("results_dir", f"{self.path} holds results but no config.json; move it away")
            return
        settings, stored_inputs = stored
        other = self.config.differences(settings)
        if inputs is not None and stored_inputs:
            other += [name for name, value in inputs.items() if stored_inputs.get(name) != value]
        if other:
            raise ConfigError(
                "results_dir",
                f"{self.path} holds a run with another {', '.join(other)}; move it away or name another --results-dir",
            )

    def _read_config(self) -> tuple[dict[str, object], dict[str, object]] | None:
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
    def locked(self, wait: bool = False) -> Iterator[None]:
        """Lock the directory against other processes; the system frees the lock of a process that dies.

        If another process holds the lock, waits for it, or raises `BusyError` without `wait`. Raises `ConfigError` if
        the directory cannot be written.
        """
        lock = self._lock()
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=0)
        except Timeout as error:
            if not wait:
                raise BusyError(f"{self.config.name} is being worked on by another process") from error
            self.on_message("another process is at work on this run; waiting for it")
            lock.acquire(timeout=-1, poll_interval=0.5)
        except OSError as error:
            raise self._unwritable(error) from error
        try:
            yield
        finally:
            lock.release()

    @property
    def busy(self) -> bool:
        """Whether a process is at work on the run."""
        if not (self.path / LOCK).exists():
            return False
        try:
            with self._lock().acquire(timeout=0):
                return False
        except Timeout:
            return True
        except OSError:
            return False

    def _lock(self) -> FileLock:
        return FileLock(self.path / LOCK)

    def _unwritable(self, error: OSError) -> ConfigError:
        return ConfigError("results_dir", f"{self.path} cannot be written: {error.strerror or error}")

    def start_session(self, inputs: Mapping[str, str], session: Session) -> Session | None:
        """Create the directory, write settings and `inputs`, and add this `session` to the provenance.

        Returns the previous session, None for the first. Raises `ConfigError` if the provenance is damaged or the
        directory cannot be written.
        """
        try:
            path = self.path / "provenance.json"
            earlier: list[Session] = json.loads(path.read_text())["sessions"] if path.exists() else []
            self._documents = {
                "config.json": json_text({"settings": self.config.to_json(), "inputs": dict(inputs)}),
                path.name: json_text({"command": self.config.command, "sessions": [*earlier, dict(session)]}),
            }
            self._write_documents()
            (self.path / FAILURE).unlink(missing_ok=True)
            return earlier[-1] if earlier else None
        except (ValueError, KeyError, TypeError) as error:
            raise ConfigError("results_dir", f"{path} is damaged; delete it") from error
        except OSError as error:
            raise self._unwritable(error) from error

    def _write_documents(self) -> None:
        for name, text in self._documents.items():
            write_atomically(self.path / name, text)

    def texts(self, states: Mapping[str, TableState | str]) -> dict[str, str]:
        """Return the text of each table at the time of the checkpoint that holds `states` (see `table_states`).

        Raises `ConfigError` if a file has lost or changed what the checkpoint counts on.
        """
        found = dict[str, str]()
        for name, state in states.items():
            path = self.path / f"{name}.csv"
            text = restored_text(path, state)
            if text is None:
                remedy = f"put them back, or delete {' and '.join(CHECKPOINTS)} beside it to start the run again"
                raise ConfigError("results_dir", f"{path} has lost or changed rows; {remedy}")
            found[name] = text
        return found

    def restore_tables(self, tables: Mapping[str, str]) -> None:
        """Restore the tables to these `texts`; missing ones get a header.

        This drops torn rows, and rows that a killed process wrote after the checkpoint: the resumed run writes the same
        rows again.
        """
        restored = []
        for name, columns in COLUMNS.items():
            if name in OPTIONAL_TABLES and name not in tables:
                continue
            table = self._tables[name] = self._table(name, tables.get(name) or csv_text([columns]))
            if table.path.exists() and table.path.read_text(errors="replace") != table.text:
                restored.append(table.path.name)
            table.write()
        if restored:
            self.on_message(f"{', '.join(restored)}: restored from the last checkpoint")

    @property
    def table_states(self) -> dict[str, TableState]:
        """What the checkpoint keeps of every table."""
        return {name: table.state() for name, table in self._tables.items()}

    def append(self, table: str, rows: Iterable[Mapping[str, object]]) -> None:
        """Append `rows` to a table of `COLUMNS` and flush; columns that a row lacks stay empty."""
        text = csv_text([[format_cell(row.get(column, "")) for column in COLUMNS[table]] for row in rows])
        if table not in self._tables:
            self._tables[table] = self._table(table, csv_text([COLUMNS[table]]) + text)
            self._tables[table].write()
            return
        try:
            self._tables[table].append(text)
        except FileNotFoundError:
            self._rewrite()

    def _rewrite(self) -> None:
        """Write documents and tables again, from memory, into a directory that has lost files."""
        self.on_message(f"{self.path.name} has disappeared or lost files; written again")
        self._write_documents()
        for table in self._tables.values():
            table.write()

    def rows(self, table: str) -> list[dict[str, str]]:
        """Return all rows of a table, of this session and of those before it, from memory."""
        return csv_rows(self._tables[table].text)

    def save_checkpoint(self, content: bytes) -> None:
        """Write `content` as the latest checkpoint; the one that was the latest becomes the previous."""
        if not (self.path / "config.json").exists():
            self._rewrite()
        new, latest, previous = (self.path / name for name in ("checkpoint.new.pt", *CHECKPOINTS))
        write_atomically(new, content)
        if latest.exists():
            latest.replace(previous)
        new.replace(latest)

    def checkpoints(self) -> Iterator[tuple[str, bytes]]:
        """Yield name and content of the checkpoints that exist, latest first."""
        for name in CHECKPOINTS:
            path = self.path / name
            if path.exists():
                yield name, path.read_bytes()

    def read(self, name: str) -> bytes | None:
        """Return the content of a file; None if it does not exist."""
        path = self.path / name
        return path.read_bytes() if path.exists() else None

    def write(self, files: Mapping[str, bytes]) -> None:
        """Write `files` by name."""
        for name, content in files.items():
            write_atomically(self.path / name, content)

    def finish(self, summary: Summary, files: Mapping[str, bytes]) -> None:
        """Write `files` by name, then the summary, which marks the run as finished; delete the checkpoints."""
        self.write(files)
        write_atomically(self.path / "summary.json", json_text(summary))
        for name in (*CHECKPOINTS, CURVE_CHECKPOINT):
            (self.path / name).unlink(missing_ok=True)

    def record_failure(self, reason: str, traceback: str) -> None:
        """Write failure.txt, and config.json if nothing else exists."""
        write_atomically(self.path / FAILURE, f"{reason}\n\n{traceback}")
        if not (self.path / "config.json").exists() and not (self.path / "metrics.csv").exists():
            write_atomically(self.path / "config.json", json_text({"settings": self.config.to_json(), "inputs": {}}))

    def summary(self) -> Summary:
        """Return the summary of a finished run; raises `ConfigError` if it is damaged."""
        path = self.path / "summary.json"
        try:
            summary: Summary | None = json.loads(path.read_text())
        except ValueError:
            summary = None
        if not isinstance(summary, dict) or not summary.keys() >= Summary.__required_keys__:
            raise ConfigError("results_dir", f"{path} is damaged; delete it to have the run done again")
        return summary
