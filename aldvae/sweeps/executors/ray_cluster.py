"""Runs on a Ray cluster, whose nodes need not share a file system with this machine.

A worker executes its run in a temporary directory of its node. After each epoch the driver receives the files that
changed (tables, checkpoint; at the end the model) and writes them into its results directory. If the node dies, the run
resumes on another node from its last epoch.
"""

from __future__ import annotations

import hashlib
import logging
import queue
import socket
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from aldvae.config.execution import Execution, Schedule
from aldvae.runs.directory import RunDirectory
from aldvae.sweeps.executors.base import Ended, EpochDone, Event, State
from aldvae.sweeps.executors.file_sync import Changes, DirectorySync, apply_changes, pack, read_files, unpack
from aldvae.sweeps.executors.worker import ended_by, execute, one_line
from aldvae.sweeps.jobs import Job
from aldvae.utils.errors import AldvaeError, BusyError, ConfigError
from aldvae.utils.files import write_atomically
from aldvae.utils.threads import let_waiting_threads_sleep

try:
    import ray
    from ray import ObjectRef, ObjectRefGenerator
    from ray.exceptions import RayError
except ImportError as error:
    raise ConfigError("executor", "ray needs Ray; pip install 'aldvae[ray]'") from error

if TYPE_CHECKING:
    from aldvae.training.inputs import InputCache

_MAX_SLOTS = 1024


@dataclass(frozen=True)
class ClassifierFiles:
    """The files of a trained classifier by name, or its `failure`; no files for runs with other features."""

    files: dict[str, bytes]
    failure: Ended | None = None


@dataclass
class _Running:
    job: Job
    directory: RunDirectory
    updates: ObjectRefGenerator
    lock: ExitStack


class RayExecutor:
    """Executes up to `slots` runs at a time as Ray tasks; the driver holds the locks of their directories."""

    def __init__(self, schedule: Schedule, execution: Execution) -> None:
        """Connect to the cluster, or start one on this machine; raises `ConfigError` if that fails."""
        threads = execution.threads or 1
        self.execution = replace(execution, max_threads=threads)
        address = schedule.ray_address or "local"
        _check_address(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            problem = f"{schedule.ray_address or 'a local cluster'} cannot be reached: {one_line(error)}"
            raise ConfigError("ray_address", problem) from error
        self._resources = {"num_cpus": threads, "num_gpus": schedule.gpus_per_run or 0}
        self.slots = min(schedule.jobs or _MAX_SLOTS, self._runs_that_fit())
        self._running: dict[str, _Running] = {}
        self._ended: list[Ended] = []
        self._own_data: dict[Path, ObjectRef[bytes | None]] = {}
        self._classifiers: dict[tuple[object, ...], ObjectRef[ClassifierFiles]] = {}
        self._saved: set[ObjectRef[ClassifierFiles]] = set()
        self._stopping = False

    def _runs_that_fit(self) -> int:
        available = ray.cluster_resources()
        names = {"num_cpus": "CPU", "num_gpus": "GPU"}
        fits = [int(available.get(names[name], 0) / amount) for name, amount in self._resources.items() if amount]
        if min(fits) < 1:
            raise ConfigError("gpus_per_run", "or --threads asks for more than the Ray cluster has; lower it")
        return min(fits)

    def submit(self, stack: Sequence[Job]) -> None:
        """See `Executor.submit`; on Ray a stack is a single job."""
        (job,) = stack
        directory, lock = RunDirectory(self.execution.results_dir, job.config), ExitStack()
        try:
            lock.enter_context(directory.locked())
            arguments = (job, self.execution, self._packed(job), self._classifier(job), read_files(directory.path))
            task = ray.remote(run_remotely).options(**self._resources, max_retries=0, num_returns="streaming")
            self._running[job.config.name] = _Running(job, directory, task.remote(*arguments), lock)
        except BusyError as error:
            self._ended.append(Ended(job.config.name, State.BUSY, str(error)))
        except (AldvaeError, OSError) as error:
            lock.close()
            self._ended.append(Ended(job.config.name, State.FAILED, one_line(error)))
        except RayError as error:
            lock.close()
            self._ended.append(Ended(job.config.name, State.LOST, _cause_of_death(error)))

    def _packed(self, job: Job) -> ObjectRef[bytes | None] | None:
        """Return a reference to the user's own data, sent to each node once; None for a built-in dataset."""
        if job.own_data is None:
            return None
        if job.own_data not in self._own_data:
            self._own_data[job.own_data] = ray.put(pack(job.own_data))
        return self._own_data[job.own_data]

    def _classifier(self, job: Job) -> ClassifierFiles | ObjectRef[ClassifierFiles]:
        """Return a reference to the classifier that all runs on the same data share, trained by one worker.

        Nodes with different processors would train different classifiers, whose Fréchet distances are not comparable.
        """
        config = job.config
        if config.metrics.fid_features != "classifier":
            return ClassifierFiles({})
        key = (config.data.dataset, config.data.source, config.data.limit, config.data.validation, config.data.resize)
        if key not in self._classifiers:
            cached = read_files(_classifier_directory(self.execution))
            task = ray.remote(train_classifier).options(**self._resources)
            self._classifiers[key] = task.remote(job, self.execution, self._packed(job), cached)
        return self._classifiers[key]

    def events(self, timeout: float) -> list[Event]:
        """See `Executor.events`."""
        self._save_classifiers()
        events: list[Event] = list(self._ended)
        self._ended.clear()
        running = {run.updates: run for run in self._running.values()}
        if running:
            ready, _ = ray.wait(list(running), timeout=0 if events else timeout)
            for updates in ready:
                events += self._receive(running[updates])
        elif not events:
            threading.Event().wait(timeout)
        return events

    def _save_classifiers(self) -> None:
        """Copy trained classifiers into the driver's cache, so that later sessions use the same ones."""
        waiting = [reference for reference in self._classifiers.values() if reference not in self._saved]
        for reference in ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []:
            self._saved.add(reference)
            # The runs that wait for a classifier report the death of its worker.
            with suppress(RayError):
                apply_changes(_classifier_directory(self.execution), ray.get(reference).files)

    def _receive(self, running: _Running) -> list[Event]:
        name = running.job.config.name
        event = self._next_event(running)
        # While stopping, a run ends with its next epoch.
        stopped = self._stopping and isinstance(event, EpochDone)
        if isinstance(event, Ended) or stopped:
            del self._running[name]
            running.lock.close()
            if stopped or (isinstance(event, Ended) and event.state is State.FAILED):
                ray.cancel(running.updates, force=True)
        return [event, Ended(name, State.STOPPED)] if stopped else [event]

    def _next_event(self, running: _Running) -> Event:
        """Return the next event of a run, after its changed files are written here."""
        name = running.job.config.name
        try:
            update: tuple[Event, Changes] = ray.get(next(running.updates))
            apply_changes(running.directory.path, update[1])
        except StopIteration:
            return Ended(name, State.LOST, "its worker ended without an event")
        except RayError as error:
            return Ended(name, State.LOST, _cause_of_death(error))
        except OSError as error:
            return Ended(name, State.FAILED, one_line(error))
        return update[0]

    def stop(self) -> None:
        """See `Executor.stop`; the files of an epoch arrive with its event."""
        self._stopping = True

    def close(self) -> None:
        """See `Executor.close`."""
        for running in self._running.values():
            ray.cancel(running.updates, force=True)
            running.lock.close()
        self._running.clear()
        ray.shutdown()


def _check_address(address: str) -> None:
    """Raise `ConfigError` if nothing listens at a HOST:PORT; Ray itself would try for ten minutes."""
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host, int(port)), timeout=10).close()
    except OSError as error:
        raise ConfigError("ray_address", f"{address} cannot be reached: {error.strerror or error}") from error


def _cause_of_death(error: Exception) -> str:
    return f"its worker or node died ({type(error).__name__})"


def _classifier_directory(execution: Execution) -> Path:
    return execution.cache_directory / "classifiers"


# The functions below run on the cluster.


@cache
def _input_cache() -> InputCache:
    """Return the cache of this worker process."""
    from aldvae.training.inputs import InputCache

    return InputCache()


def run_remotely(
    job: Job, execution: Execution, archive: bytes | None, classifier: ClassifierFiles, files: Changes
) -> Iterator[tuple[Event, dict[str, bytes | None]]]:
    """Execute `job` on this node, resumed from `files`; yield its events, each with the files changed until then."""
    let_waiting_threads_sleep()
    if classifier.failure is not None:
        yield replace(classifier.failure, run=job.config.name), {}
        return
    with tempfile.TemporaryDirectory(prefix="aldvae-") as root:
        execution = replace(execution, results_dir=Path(root) / "runs")
        job = _unpack_data(job, archive, Path(root))
        _store_classifiers(classifier.files, execution)
        yield from _updates(job, execution, DirectorySync(execution.results_dir / job.config.name, files))


def _updates(
    job: Job, execution: Execution, directory: DirectorySync
) -> Iterator[tuple[Event, dict[str, bytes | None]]]:
    updates: queue.SimpleQueue[tuple[Event, dict[str, bytes | None]]] = queue.SimpleQueue()
    abandoned = threading.Event()

    def send(event: Event) -> None:
        updates.put((event, directory.changes()))

    worker = threading.Thread(target=execute, args=([job], execution, send, abandoned.is_set, _input_cache()))
    worker.start()
    try:
        while True:
            event, changes = updates.get()
            yield event, changes
            if isinstance(event, Ended):
                return
    finally:
        abandoned.set()
        worker.join()


def train_classifier(job: Job, execution: Execution, archive: bytes | None, cached: Changes) -> ClassifierFiles:
    """Return the classifier for the features of `job`: from `cached` or this node's cache, else trained now."""
    let_waiting_threads_sleep()
    from aldvae.training.inputs import load_data, load_run_features
    from aldvae.utils.devices import pick_device

    with tempfile.TemporaryDirectory(prefix="aldvae-") as root:
        job, config = _unpack_data(job, archive, Path(root)), job.config
        execution = replace(execution, own_data=job.own_data)
        _store_classifiers(cached, execution)
        try:
            data = load_data(config, execution, _input_cache())
            features = load_run_features(config, execution, data, pick_device("cpu"), _input_cache())
        except Exception as error:
            return ClassifierFiles({}, ended_by(config.name, error))
    assert features is not None
    paths = _classifier_directory(execution).glob("*.safetensors")
    files = {path.name: path.read_bytes() for path in paths}
    # The identity of features ends with the hash of their weights.
    digests = {name: hashlib.sha256(data).hexdigest()[:16] for name, data in files.items()}
    return ClassifierFiles(
        {name: files[name] for name, digest in digests.items() if features.identity.endswith(digest)}
    )


def _unpack_data(job: Job, archive: bytes | None, root: Path) -> Job:
    return job if archive is None else replace(job, own_data=unpack(archive, root / "data"))


def _store_classifiers(classifiers: Changes, execution: Execution) -> None:
    for name, data in classifiers.items():
        path = _classifier_directory(execution) / name
        if data is not None and (not path.exists() or path.read_bytes() != data):
            write_atomically(path, data)
