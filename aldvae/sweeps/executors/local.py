"""Worker processes on this machine: each executes one stack after another, and dies with the driver."""

from __future__ import annotations

import multiprocessing
import os
import queue
import signal
import threading
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnProcess

from aldvae.config.execution import Execution
from aldvae.sweeps.executors.base import Ended, Event, State
from aldvae.sweeps.executors.worker import execute
from aldvae.sweeps.jobs import Job
from aldvae.utils.threads import let_waiting_threads_sleep

# A forked process cannot use CUDA, and inherits locks that other threads hold.
_CONTEXT = multiprocessing.get_context("spawn")
_STOP = "stop"


@dataclass
class _Worker:
    process: SpawnProcess
    connection: Connection
    index: int
    runs: set[str] = field(default_factory=set)


class LocalExecutor:
    """Up to `slots` worker processes, started when they are needed and then reused."""

    def __init__(self, slots: int, execution: Execution) -> None:
        """No process is started yet."""
        self.slots, self.execution = slots, execution
        self._workers: list[_Worker] = []

    def submit(self, stack: Sequence[Job]) -> None:
        """See `Executor.submit`."""
        worker = next((worker for worker in self._workers if not worker.runs), None) or self._start()
        worker.runs = {job.config.name for job in stack}
        _send(worker, list(stack))

    def _start(self) -> _Worker:
        index = min(set(range(self.slots)) - {worker.index for worker in self._workers})
        ours, theirs = _CONTEXT.Pipe()
        process = _CONTEXT.Process(target=work, args=(theirs, index, self.execution), daemon=True)
        process.start()
        # The worker's end must be open in the worker alone, so that its death closes the pipe.
        theirs.close()
        self._workers.append(_Worker(process, ours, index))
        return self._workers[-1]

    def events(self, timeout: float) -> list[Event]:
        """See `Executor.events`."""
        ready = wait([worker.connection for worker in self._workers], timeout)
        events: list[Event] = []
        for worker in [worker for worker in self._workers if worker.connection in ready]:
            events += self._receive(worker)
        return events

    def _receive(self, worker: _Worker) -> list[Event]:
        events: list[Event] = []
        try:
            while worker.connection.poll():
                events.append(worker.connection.recv())
                if isinstance(events[-1], Ended):
                    worker.runs.discard(events[-1].run)
        except (EOFError, OSError):
            self._workers.remove(worker)
            worker.process.join()
            worker.connection.close()
            cause = _cause_of_death(worker.process.exitcode)
            events += [Ended(run, State.LOST, cause) for run in sorted(worker.runs)]
        return events

    def stop(self) -> None:
        """See `Executor.stop`."""
        for worker in self._workers:
            _send(worker, _STOP)

    def close(self) -> None:
        """See `Executor.close`."""
        for worker in self._workers:
            worker.process.kill()
        for worker in self._workers:
            worker.process.join()
            worker.connection.close()
        self._workers.clear()


def _send(worker: _Worker, message: list[Job] | str) -> None:
    # `_receive` notices the death of a worker.
    with suppress(OSError):
        worker.connection.send(message)


def _cause_of_death(exitcode: int | None) -> str:
    if exitcode is not None and exitcode < 0:
        hint = " (out of memory?)" if exitcode == -signal.SIGKILL else ""
        return f"its worker was killed by {signal.Signals(-exitcode).name}{hint}"
    return f"its worker ended with exit code {exitcode}"


def work(connection: Connection, index: int, execution: Execution) -> None:
    """Execute the stacks that arrive, until the driver is gone."""
    let_waiting_threads_sleep()
    # The terminal sends an interrupt to every process; the driver alone decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    stacks: queue.SimpleQueue[list[Job]] = queue.SimpleQueue()
    stop = threading.Event()
    threading.Thread(target=_listen, args=(connection, stacks, stop), daemon=True).start()
    from aldvae.training.inputs import InputCache
    from aldvae.utils.devices import device_for_worker

    execution, cache = replace(execution, device=device_for_worker(execution.device, index)), InputCache()
    while True:
        execute(stacks.get(), execution, connection.send, stop.is_set, cache)


def _listen(connection: Connection, stacks: queue.SimpleQueue[list[Job]], stop: threading.Event) -> None:
    try:
        while True:
            message = connection.recv()
            if message == _STOP:
                stop.set()
            else:
                stacks.put(message)
    except (EOFError, OSError):
        # The driver is gone: nobody would receive the events, and the next driver needs the lock of this run.
        os._exit(1)
