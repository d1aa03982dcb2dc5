"""Calls of one function side by side, here or on a cluster: a call and its limits in, a value or a reason out.

A pool knows nothing of the function that is called. It hands calls to workers, which make one call at a time under
hard limits: :class:`~kreludomain.run.engine.worker.ProcessWorker`, a process on this machine, or an actor on a Ray
cluster that keeps such a process on its node.
"""

from __future__ import annotations

import logging
import os
import pickle
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol

from kreludomain.errors import InputError
from kreludomain.run.engine.worker import Failure, Kind, Limits, ProcessWorker, Success, sent_by_value

LOG = logging.getLogger(__name__)

Call = tuple[Future[Success | Failure], tuple[Any, ...], Limits]


class Worker(Protocol):
    """Makes one call at a time. Once it is not ``usable``, its pool makes another one."""

    @property
    def usable(self) -> bool: ...

    def run(self, arguments: tuple[Any, ...], limits: Limits) -> Success | Failure:
        """One call; does not return before the value is there, or a limit has passed."""
        ...

    def kill(self) -> None:
        """Ends the worker and its call, from any thread."""
        ...


class Pool:
    """At most ``size`` calls at a time, each by a worker that ``make`` makes."""

    def __init__(self, make: Callable[[], Worker], size: int) -> None:
        self.size = size
        self._make = make
        self._calls: queue.SimpleQueue[Call | None] = queue.SimpleQueue()
        self._lock = threading.Lock()
        self._workers: set[Worker] = set()
        self._closed = False
        for number in range(size):  # daemons: the end of the program does not wait for them
            threading.Thread(target=self._work, name=f"worker {number}", daemon=True).start()

    def submit(self, *arguments: Any, limits: Limits = Limits()) -> Future[Success | Failure]:
        """A call of the function; the future raises only errors of the pool itself."""
        future: Future[Success | Failure] = Future()
        self._calls.put((future, arguments, limits))
        return future

    def close(self) -> None:
        """Kills every process; calls that have not returned never will."""
        with self._lock:
            self._closed = True
            for worker in self._workers:
                worker.kill()
        for _ in range(self.size):
            self._calls.put(None)

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _work(self) -> None:
        worker: Worker | None = None
        while (call := self._calls.get()) is not None and not self._closed:
            future, arguments, limits = call
            try:
                worker = self._replaced(worker)
                answer = worker.run(arguments, limits)
            except Exception as error:
                future.set_exception(error)
            else:
                if isinstance(answer, Failure) and not self._closed:
                    LOG.debug("%s after %.3g s: %s", answer.kind, answer.seconds, answer.reason)
                future.set_result(answer)

    def _replaced(self, worker: Worker | None) -> Worker:
        """A worker that can be used: this one, or a new one."""
        if worker is not None and worker.usable:
            return worker
        made = self._make()
        with self._lock:
            self._workers.discard(worker) if worker is not None else None
            self._workers.add(made)
            if self._closed:
                made.kill()
        return made


def local_pool(function: Callable[..., Any], size: int, threads: int = 1, by_value: bool = False) -> Pool:
    """A pool of processes on this machine, each with so many threads.

    ``function`` is sent to every process once, with everything that is bound to it (a method's object, the arguments of
    ``functools.partial``); arguments and values are sent at every call. ``by_value`` also sends what the program's main
    module defines, which workers then do not import. Raises an error of ``pickle`` for a function that cannot be sent.
    """
    sent = sent_by_value(function) if by_value else pickle.dumps(function)
    return Pool(lambda: ProcessWorker(sent, threads, by_value=by_value), size)


def ray_pool(function: Callable[..., Any], size: int | None, threads: int, tasks: int) -> Pool:
    """A pool on the cluster that ``RAY_ADDRESS`` names or that runs here, else on a Ray of its own on this machine.

    ``size``: as many as the cluster's cores allow where it is ``None``, and never more than ``tasks``. Raises
    :class:`InputError` if Ray is not installed or cannot be reached.
    """
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # a certifier tells nobody that it is used
    try:
        import ray
    except ImportError:
        raise InputError("cluster: ray is not installed; pip install 'kreludomain[ray]'") from None
    if not ray.is_initialized():
        try:
            ray.init(logging_level=logging.ERROR, log_to_driver=False)
        except (ConnectionError, RuntimeError, ValueError) as error:
            raise InputError(f"cluster: ray does not start: {str(error).splitlines()[0]}") from None
    most = size or int(ray.cluster_resources().get("CPU", 1)) // threads
    sent = ray.put(pickle.dumps(function))
    actor = ray.remote(num_cpus=threads)(WorkerActor)
    return Pool(lambda: RayWorker(ray, actor.remote(sent, threads)), max(1, min(most, tasks)))


class WorkerActor:
    """An actor: it keeps a worker process on its node, and starts another one when that is gone.

    Limits hold there as they do here, because an actor drives its worker process as a thread of a local pool does.
    """

    def __init__(self, function: bytes, threads: int) -> None:
        self._function, self._threads = function, threads
        self._worker = ProcessWorker(function, threads)

    def run(self, arguments: tuple[Any, ...], limits: Limits) -> Success | Failure:
        if not self._worker.usable:
            self._worker = ProcessWorker(self._function, self._threads)
        return self._worker.run(arguments, limits)


class RayWorker:
    """A worker of a pool whose calls an actor makes."""

    def __init__(self, ray: Any, actor: Any) -> None:
        self._ray, self._actor = ray, actor
        self.usable = True

    def run(self, arguments: tuple[Any, ...], limits: Limits) -> Success | Failure:
        try:
            answer: Success | Failure = self._ray.get(self._actor.run.remote(arguments, limits))
        except self._ray.exceptions.RayActorError as error:
            self.usable = False
            return Failure(Kind.CRASH, f"its node or actor is gone: {str(error).splitlines()[0]}", 0.0)
        return answer

    def kill(self) -> None:
        self.usable = False
        self._ray.kill(self._actor)
