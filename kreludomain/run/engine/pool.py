"""Calls of one function side by side, here or on a cluster: a call and its limits in, a value or a reason out.

A pool knows nothing of the function that is called. It hands calls to workers, which make one call at a time under
hard limits: :class:`~kreludomain.run.engine.worker.ProcessWorker`, a process on this machine, or an actor on a cluster
(``cluster``).
"""

from __future__ import annotations

import logging
import pickle
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Protocol

from kreludomain.run.engine.worker import Failure, Limits, ProcessWorker, Success

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


def local_pool(function: Callable[..., Any], size: int, threads: int = 1) -> Pool:
    """A pool of processes on this machine, each with so many threads.

    ``function`` is sent to every process once, with everything that is bound to it (a method's object, the arguments of
    ``functools.partial``); arguments and values are sent at every call. Raises an error of ``pickle`` for a function
    that cannot be sent.
    """
    sent = pickle.dumps(function)
    return Pool(lambda: ProcessWorker(sent, threads), size)
