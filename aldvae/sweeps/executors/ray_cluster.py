"""A Ray cluster, whose nodes need no file system in common with this machine.

A worker does its run in a temporary directory of its own node. After each epoch, what changed there (rows, checkpoint;
at the end the model) comes back and is written into the driver's results directory, so that a run whose node dies goes
on elsewhere from its last epoch.
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
from pathlib import Path
from typing import Any

from aldvae.config.execution import Execution, Schedule
from aldvae.runs.directory import RunDirectory
from aldvae.sweeps.executors.base import Ended, EpochDone, Event, State
from aldvae.sweeps.executors.file_sync import Changes, Mirror, apply, content, pack, unpack
from aldvae.sweeps.executors.worker import end, one_line, perform
from aldvae.sweeps.jobs import Job
from aldvae.utils.errors import AldvaeError, BusyError, ConfigError
from aldvae.utils.files import write_atomically

try:
    import ray
    from ray.exceptions import RayError
except ImportError as error:
    raise ConfigError("executor", "ray needs Ray; pip install 'aldvae[ray]'") from error


_MOST = 1024


@dataclass
class _Running:
    job: Job
    directory: RunDirectory
    stream: Any
    held: ExitStack


class RayExecutor:
    """Up to `slots` runs at a time as tasks of a Ray cluster; the driver holds the locks of their directories."""

    def __init__(self, schedule: Schedule, execution: Execution) -> None:
        """Connect to the cluster, or start one on this machine; raises `ConfigError` where that cannot be done."""
        threads = execution.threads or 1
        self.execution = replace(execution, share=threads)
        address = schedule.ray_address or "local"
        _check_address(address)
        try:
            ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR, include_dashboard=False)
        except (ConnectionError, RuntimeError, ValueError, TimeoutError) as error:
            problem = f"{schedule.ray_address or 'a local cluster'} cannot be reached: {one_line(error)}"
            raise ConfigError("ray_address", problem) from error
        self._needs = {"num_cpus": threads, "num_gpus": schedule.gpus_per_run or 0}
        self.slots = min(schedule.jobs or _MOST, self._fitting())
        self._running: dict[str, _Running] = {}
        self._ended: list[Ended] = []
        self._own_data: dict[Path, Any] = {}
        self._classifiers: dict[Any, Any] = {}
        self._kept: set[Any] = set()
        self._stopping = False

    def _fitting(self) -> int:
        there = ray.cluster_resources()
        names = {"num_cpus": "CPU", "num_gpus": "GPU"}
        fits = [int(there.get(names[need], 0) / amount) for need, amount in self._needs.items() if amount]
        if min(fits) < 1:
            raise ConfigError("gpus_per_run", "or --threads asks for more than the Ray cluster has; lower it")
        return min(fits)

    def submit(self, batch: Sequence[Job]) -> None:
        """See `Executor.submit`; a batch is a single job here."""
        (job,) = batch
        directory, held = RunDirectory(self.execution.results_dir, job.config), ExitStack()
        try:
            held.enter_context(directory.locked())
            given = (job, self.execution, self._packed(job), self._classifier(job), content(directory.path))
            task = ray.remote(stream).options(**self._needs, max_retries=0, num_returns="streaming")
            self._running[job.config.name] = _Running(job, directory, task.remote(*given), held)
        except BusyError as error:
            self._ended.append(Ended(job.config.name, State.BUSY, str(error)))
        except (AldvaeError, OSError) as error:
            held.close()
            self._ended.append(Ended(job.config.name, State.FAILED, one_line(error)))
        except RayError as error:
            held.close()
            self._ended.append(Ended(job.config.name, State.LOST, _cause(error)))

    def _packed(self, job: Job) -> Any:
        """Return a reference to the user's own data, sent to each node once; None for a dataset known by name."""
        if job.own_data is None:
            return None
        if job.own_data not in self._own_data:
            self._own_data[job.own_data] = ray.put(pack(job.own_data))
        return self._own_data[job.own_data]

    def _classifier(self, job: Job) -> Any:
        """Return a reference to the classifier that all runs on the same data share, trained by one worker.

        Nodes with different processors would train different ones, whose distances cannot be compared.
        """
        config = job.config
        if config.fid_features != "classifier":
            return None
        key = (config.dataset, config.source, config.limit, config.validation, config.resize)
        if key not in self._classifiers:
            known = {name: data for name, data in content(_classifiers(self.execution)).items() if data is not None}
            task = ray.remote(train_classifier).options(**self._needs)
            self._classifiers[key] = task.remote(job, self.execution, self._packed(job), known)
        return self._classifiers[key]

    def events(self, timeout: float) -> list[Event]:
        """See `Executor.events`."""
        self._keep_classifiers()
        found: list[Event] = list(self._ended)
        self._ended.clear()
        streams = {running.stream: running for running in self._running.values()}
        if streams:
            ready, _ = ray.wait(list(streams), timeout=0 if found else timeout)
            for one in ready:
                found += self._next(streams[one])
        elif not found:
            threading.Event().wait(timeout)
        return found

    def _keep_classifiers(self) -> None:
        """Put classifiers that are trained into the driver's cache: later sessions must use the same."""
        waiting = [reference for reference in self._classifiers.values() if reference not in self._kept]
        for reference in ray.wait(waiting, num_returns=len(waiting), timeout=0)[0] if waiting else []:
            self._kept.add(reference)
            # A worker that died is told by the runs that wait for it.
            with suppress(RayError):
                apply(_classifiers(self.execution), ray.get(reference).files)

    def _next(self, running: _Running) -> list[Event]:
        name = running.job.config.name
        try:
            event, changes = ray.get(next(running.stream))
            apply(running.directory.path, changes)
        except StopIteration:
            event = Ended(name, State.LOST, "its worker ended without a word")
        except RayError as error:
            event = Ended(name, State.LOST, _cause(error))
        except OSError as error:
            event = Ended(name, State.FAILED, one_line(error))
        ends = isinstance(event, Ended)
        if ends or (self._stopping and isinstance(event, EpochDone)):
            del self._running[name]
            running.held.close()
            if not ends or event.state is State.FAILED:
                ray.cancel(running.stream, force=True)
        return [event] if ends or not self._stopping else [event, Ended(name, State.STOPPED)]

    def stop(self) -> None:
        """See `Executor.stop`: what the last epoch left has come back when its event has."""
        self._stopping = True

    def close(self) -> None:
        """See `Executor.close`."""
        for running in self._running.values():
            ray.cancel(running.stream, force=True)
            running.held.close()
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


def _cause(error: Exception) -> str:
    return f"its worker or node died ({type(error).__name__})"


def _classifiers(execution: Execution) -> Path:
    return execution.cache_directory / "classifiers"


# What follows runs on the cluster.

_shelf: Any = None


def _kept() -> Any:
    """Return the shelf of this worker process."""
    global _shelf
    if _shelf is None:
        from aldvae.training.inputs import Shelf

        _shelf = Shelf()
    return _shelf


def stream(
    job: Job, execution: Execution, archive: bytes | None, classifier: Classifier | None, files: Changes
) -> Iterator[tuple[Event, dict[str, bytes | None]]]:
    """Do `job` on this node, going on from `files`; yield its events, each with what changed in its directory."""
    if classifier is not None and classifier.failure is not None:
        yield replace(classifier.failure, run=job.config.name), {}
        return
    with tempfile.TemporaryDirectory(prefix="aldvae-") as root:
        here = replace(execution, results_dir=Path(root) / "runs")
        job = _unpacked(job, archive, Path(root))
        if classifier is not None:
            _give(classifier.files, here)
        mirror = Mirror(here.results_dir / job.config.name, files)
        told: queue.SimpleQueue[tuple[Event, dict[str, bytes | None]]] = queue.SimpleQueue()
        abandoned = threading.Event()

        def tell(event: Event) -> None:
            told.put((event, mirror.changes()))

        worker = threading.Thread(target=lambda: tell(perform(job, here, tell, abandoned.is_set, _kept())))
        worker.start()
        try:
            while True:
                event, changes = told.get()
                yield event, changes
                if isinstance(event, Ended):
                    return
        finally:
            abandoned.set()
            worker.join()


@dataclass(frozen=True)
class Classifier:
    """The file of a trained classifier, or why there is none."""

    files: dict[str, bytes]
    failure: Ended | None = None


def train_classifier(job: Job, execution: Execution, archive: bytes | None, known: Changes) -> Classifier:
    """Return the classifier that `job` needs: of those `known`, else of this node, else trained now."""
    from aldvae.training.inputs import load_data, load_features_of
    from aldvae.utils.devices import pick_device

    with tempfile.TemporaryDirectory(prefix="aldvae-") as root:
        job, config = _unpacked(job, archive, Path(root)), job.config
        here = replace(execution, own_data=job.own_data)
        _give(known, here)
        try:
            data = load_data(config, here, _kept())
            features = load_features_of(config, here, data, pick_device("cpu"), _kept())
        except Exception as error:
            return Classifier({}, end(config.name, error))
    assert features is not None
    found = ((path.name, path.read_bytes()) for path in _classifiers(here).glob("*.safetensors"))
    used = {name: data for name, data in found if features.identity.endswith(hashlib.sha256(data).hexdigest()[:16])}
    return Classifier(used)


def _unpacked(job: Job, archive: bytes | None, root: Path) -> Job:
    return job if archive is None else replace(job, own_data=unpack(archive, root / "data"))


def _give(classifiers: Changes, execution: Execution) -> None:
    for name, data in classifiers.items():
        path = _classifiers(execution) / name
        if data is not None and (not path.exists() or path.read_bytes() != data):
            write_atomically(path, data)
