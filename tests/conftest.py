"""Shared fixtures and helpers: real data (or a skip), a cache for the session, `aldvae` as a process."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any

import pytest

from aldvae.config.execution import Execution
from aldvae.config.presets import PRESETS
from aldvae.config.resolve import Overrides
from aldvae.config.resolve import resolve as resolve_config
from aldvae.config.run_config import RunConfig
from aldvae.data.dataset import Dataset
from aldvae.data.load import load_dataset
from aldvae.sweeps.jobs import Job
from aldvae.sweeps.jobs import sweep as sweep_jobs

# Settings of an adaptive run on digits that takes a second.
TINY: dict[str, Any] = {
    "limit": 200,
    "epochs": 6,
    "patience": 2,
    "hidden_dim": 16,
    "init_dim": 14,
    "fid_samples": 50,
    "silhouette_samples": 50,
}

Result = subprocess.CompletedProcess[str]
Cli = Callable[..., Result]


def resolve(
    kind: str, dataset: str, execution: Execution | None = None, protocol: str | None = "paper", **settings: Any
) -> RunConfig:
    """`aldvae.config.resolve.resolve` with the overrides as keywords, under the paper's protocol if none is named.

    With `protocol` None, the dataset's default is used.
    """
    return resolve_config(kind, dataset, Overrides(settings, protocol), execution)


def sweep(
    kind: str,
    dataset: str,
    execution: Execution | None = None,
    *,
    sizes: Sequence[int] | None = None,
    seeds: Sequence[int] | None = None,
    protocol: str | None = "paper",
    **settings: Any,
) -> list[Job]:
    """`aldvae.sweeps.jobs.sweep` with the overrides as keywords; `protocol` as in `resolve`."""
    return sweep_jobs(kind, dataset, Overrides(settings, protocol), execution, sizes=sizes, seeds=seeds)


@pytest.fixture(scope="session", autouse=True)
def cache_dir(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Use a cache of this session, so that no test reads or changes the user's; yield its folder."""
    directory = tmp_path_factory.mktemp("cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("ALDVAE_CACHE_DIR", str(directory))
        yield directory


def digits(limit: int | None = None) -> Dataset:
    """Return the digits of scikit-learn, split as in their preset."""
    return load_dataset("digits", validation=PRESETS["digits"].validation, limit=limit, cache_dir=Path())


@pytest.fixture(scope="session")
def data_dir() -> Path:
    """Return the folder of the real datasets; without one, skip the test, or fail it if CI requires the data."""
    folder = os.environ.get("ALDVAE_DATA_DIR")
    if folder and Path(folder).is_dir():
        return Path(folder)
    reason = "ALDVAE_DATA_DIR names no folder with the real datasets"
    if os.environ.get("ALDVAE_REQUIRE_DATA"):
        pytest.fail(reason)
    pytest.skip(reason)


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, *_: object) -> None:
        """Log nothing."""


@contextmanager
def served(directory: Path) -> Iterator[str]:
    """Serve the files in `directory` on localhost; yield the address."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=directory))
    Thread(target=server.serve_forever, daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """Return a function that runs `aldvae ARGS` as a process in an empty folder; keywords are environment variables."""

    def run(*args: str | Path, **environment: str) -> Result:
        return subprocess.run(
            [sys.executable, "-m", "aldvae", *map(str, args)],
            cwd=tmp_path,
            env={**os.environ, "COLUMNS": "200", **environment},
            capture_output=True,
            text=True,
            timeout=120,
        )

    return run
