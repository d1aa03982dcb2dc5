"""A process that calls one function again and again, each time under limits that hold whatever the function does.

A function that respects its deadline returns in time and costs nothing extra here. This module is for the others: one
that does not come back is killed with its process; one that takes too much memory is refused it by the kernel; one that
crashes takes only its own process with it. Executors of the standard library and of joblib (loky) cannot do this:
there, the death of one worker breaks the whole pool, and every call that was under way is lost without a word about
which one was to blame.
"""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import pickle
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import StrEnum
from multiprocessing.connection import Connection, wait
from pathlib import Path
from types import ModuleType
from typing import Any

import cloudpickle
import torch
from threadpoolctl import threadpool_limits

from kreludomain.errors import InputError

MB = 2**20

#: Memory is limited by RLIMIT_DATA, which the kernel applies to anonymous memory since Linux 4.7.
HAS_MEMORY_LIMIT = sys.platform == "linux"


@dataclass(frozen=True)
class Limits:
    """The limits of one call: ``seconds`` until its process is killed, ``memory_mb`` (MiB) on top of an idle worker's.

    ``None``: as much as there is.
    """

    seconds: float | None = None
    memory_mb: int | None = None


class Kind(StrEnum):
    """Why a call has no value; ``INPUT``: it raised an :class:`InputError`."""

    INPUT = "input"
    ERROR = "error"
    TIMEOUT = "timeout"
    MEMORY = "memory"
    CRASH = "crash"


@dataclass(frozen=True)
class Success:
    """The value that a call returned, after how many seconds."""

    value: Any
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Why a call returned nothing, in one line, after how many seconds."""

    kind: Kind
    reason: str
    seconds: float

    def text(self, timeout_s: float | None) -> str:
        """The reason; after the time limit that it should have kept, if it was killed for its time."""
        passed = self.kind == Kind.TIMEOUT and timeout_s is not None
        return f"time limit of {timeout_s:g} s; {self.reason}" if passed else self.reason


class ProcessWorker:
    """A process that calls ``pickle.loads(function)(*arguments)``; one call at a time, from one thread at a time.

    ``threads``: how many torch and BLAS may use. The process starts at once, but nothing waits for it before the first
    call. It ends with the process that made it, however that one ends. ``forked``: it is a fork of this process where
    that can be had, which takes no time, but is safe only in a process that has computed nothing yet. ``by_value``: the
    process does not import the program's main module, and whatever that module defines is sent by value (see
    :func:`sent_by_value`).
    """

    def __init__(self, function: bytes, threads: int = 1, forked: bool = False, by_value: bool = False) -> None:
        context = multiprocessing.get_context("fork") if forked and sys.platform == "linux" else _context()
        pipe: tuple[Connection, Connection] = context.Pipe()
        self._connection, theirs = pipe
        self._process = context.Process(target=_serve, args=(theirs, function, threads), daemon=True)
        try:
            with _without_interrupts(), _without_main() if by_value else contextlib.nullcontext():
                self._process.start()
        except EOFError:
            raise ChildProcessError("a worker process cannot start: the server that forks it has ended") from None
        theirs.close()
        self._dumps = sent_by_value if by_value else pickle.dumps
        self._ready = False
        self.usable = True

    def run(self, arguments: tuple[Any, ...], limits: Limits) -> Success | Failure:
        """One call. Raises ``ChildProcessError`` where no process can be started that knows the function."""
        if not self._ready:
            self._await_start()
        start = time.monotonic()
        try:
            self._connection.send_bytes(self._dumps((arguments, limits)))
            if not self._connection.poll(limits.seconds):
                self.kill()
                reason = f"did not stop by itself, its process was killed after {limits.seconds:g} s"
                return Failure(Kind.TIMEOUT, reason, time.monotonic() - start)
            answer: Success | Failure = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            return Failure(Kind.CRASH, f"its process {self._ending()}", time.monotonic() - start)
        if isinstance(answer, Failure) and answer.kind == Kind.MEMORY:
            self.kill()  # native code that met the limit half-way may have left anything behind
        return answer

    def kill(self) -> None:
        """Ends the process, whatever it is doing. Whoever waits for it is told that it crashed."""
        self.usable = False
        self._process.kill()

    def _await_start(self) -> None:
        """Waits until the process has loaded the function."""
        try:
            trouble = pickle.loads(self._connection.recv_bytes())
        except (EOFError, OSError):
            trouble = f"it {self._ending()}"
        if trouble:
            self.kill()
            raise ChildProcessError(f"a worker process cannot start: {trouble}")
        self._ready = True

    def _ending(self) -> str:
        self.usable = False
        self._process.join(1)
        code = self._process.exitcode
        if code is None:  # it closed its end of the pipe and lives on
            self._process.kill()
            return "stopped answering"
        return f"ended with exit code {code}" if code >= 0 else f"was killed by {signal.Signals(-code).name}"


def sent_by_value(value: Any) -> bytes:
    """``value`` pickled such that ``pickle.loads`` needs nothing of the program's main module.

    A script or a notebook whose class or lambda is sent this way need not be imported by the process that gets it. So a
    script needs no ``if __name__ == "__main__"`` to keep workers from running it once more.
    """
    sent: bytes = cloudpickle.dumps(value)
    return sent


#: Held while the main module is out of sight.
_MAIN = threading.Lock()


@contextlib.contextmanager
def _without_main() -> Iterator[None]:
    """Processes started here do not import the program's main module: multiprocessing finds it in ``sys.modules``."""
    with _MAIN:
        main = sys.modules["__main__"]
        sys.modules["__main__"] = ModuleType("__main__")
        try:
            yield
        finally:
            sys.modules["__main__"] = main


def warm_up(*modules: str, by_value: bool = False) -> None:
    """Lets the first worker's start begin now, beside whatever else is to be done before it is needed.

    ``modules``: more that all workers have imported when they start. ``by_value``: as of :class:`ProcessWorker`.
    """
    _context(*modules)
    if sys.platform == "linux":
        from multiprocessing import forkserver

        with _without_interrupts(), _without_main() if by_value else contextlib.nullcontext():
            forkserver.ensure_running()


def _context(*modules: str) -> Any:
    """How processes start: on Linux from a server that has imported everything, in a fraction of a second, not seconds.

    The server is forked before anything has run in it, so no lock and no thread pool of the parent is in its children.
    """
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["__main__", __name__.partition(".")[0], __name__, *modules])
    return context


@contextlib.contextmanager
def _without_interrupts() -> Iterator[None]:
    """Processes started here never see Ctrl-C, not even while they import: their parent decides when they end."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT}) if hasattr(signal, "pthread_sigmask") else None
    try:
        yield
    finally:
        if before is not None:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)


# In the process -------------------------------------------------------------------------------------------------------


def _serve(connection: Connection, function: bytes, threads: int) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    sys.stdout.flush()
    os.dup2(2, 1)  # stdout is the parent's, and may have to be parsed
    torch.set_num_threads(threads)
    threadpool_limits(threads)
    try:
        call = pickle.loads(function)
    except BaseException as error:
        connection.send_bytes(pickle.dumps(_line(error)))
        return
    connection.send_bytes(pickle.dumps(""))
    idle = _data_bytes() if HAS_MEMORY_LIMIT else 0
    while True:
        try:
            arguments, limits = pickle.loads(connection.recv_bytes())
        except (EOFError, OSError):  # the parent has no more questions
            return
        connection.send_bytes(_answer(call, arguments, limits, idle))


def _answer(call: Callable[..., Any], arguments: tuple[Any, ...], limits: Limits, idle: int) -> bytes:
    """The pickled answer. ``idle``: the bytes that the process had before its first call."""
    start = time.monotonic()
    try:
        with _memory_limit(limits.memory_mb, idle):
            value = call(*arguments)
        return pickle.dumps(Success(value, time.monotonic() - start))
    except BaseException as error:  # SystemExit too: no call ends its worker and says nothing
        kind, reason = (Kind.INPUT, str(error)) if isinstance(error, InputError) else (Kind.ERROR, _line(error))
        if limits.memory_mb is not None and _is_memory(error):
            kind, reason = Kind.MEMORY, f"memory limit of {limits.memory_mb} MB; {reason}"
        return pickle.dumps(Failure(kind, reason, time.monotonic() - start))


@contextlib.contextmanager
def _memory_limit(memory_mb: int | None, idle: int) -> Iterator[None]:
    if memory_mb is None:
        yield
        return
    import resource  # not on every system, and then there is no limit to keep

    soft, hard = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (idle + memory_mb * MB, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_DATA, (soft, hard))


def _data_bytes() -> int:
    """The bytes of this process that RLIMIT_DATA counts."""
    found = re.search(r"^VmData:\s+(\d+) kB", Path("/proc/self/status").read_text(), re.MULTILINE)
    return int(found[1]) * 1024 if found else 0


def _is_memory(error: BaseException) -> bool:
    """Whether an allocation failed; torch, protobuf and C++ libraries say so in the text of an error only."""
    texts = (
        "can't allocate memory",
        "bad_alloc",
        "bad allocation",
        "Cannot allocate memory",
        "Failed to serialize proto",
    )
    return isinstance(error, MemoryError) or any(text in str(error) for text in texts)


def _line(error: BaseException) -> str:
    return " ".join(f"{type(error).__name__}: {error}".split())


def _end_with_parent() -> None:
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
