"""The same pool on a Ray cluster: each worker is an actor that keeps a worker process on its node.

The limits hold there as they do here, because an actor drives its worker process as a thread of a local pool does.
"""

from __future__ import annotations

import logging
import os
import pickle
from collections.abc import Callable
from typing import Any

from kreludomain.errors import InputError
from kreludomain.run.engine.pool import Pool
from kreludomain.run.engine.worker import Failure, Kind, Limits, ProcessWorker, Success


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
    """An actor: it keeps a worker process on its node, and starts another one when that is gone."""

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
