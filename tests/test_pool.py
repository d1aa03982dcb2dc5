"""Calls under limits: whatever a call does, its own future says so, and the others come back as if nothing had been."""

from __future__ import annotations

import ctypes
import itertools
import os
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from test_run import project, run

from kreludomain import Interval, Query, Verdict
from kreludomain.run.engine.machine import cores, free_mb, share
from kreludomain.run.engine.pool import local_pool
from kreludomain.run.engine.runner import Schedule
from kreludomain.run.engine.study import Row, Task
from kreludomain.run.engine.worker import Failure, Kind, Limits, Success
from kreludomain.verify import METHODS

LIMITS = Limits(seconds=2, memory_mb=200)


def misbehave(how: str) -> Any:
    """What can go wrong in a call."""
    if how == "exits":
        os._exit(3)
    if how == "crashes":
        ctypes.string_at(0)
    if how == "sleeps":
        time.sleep(60)
    if how == "allocates":
        return float(np.ones(2**30).sum())
    if how == "raises":
        raise ZeroDivisionError("two\nlines")
    if how == "leaves":
        raise SystemExit(3)
    if how == "returns what cannot be sent":
        return lambda: 0
    return os.getpid()


@pytest.mark.parametrize("workers", [1, 3])
def test_every_call_gets_its_value_or_its_reason(workers: int) -> None:
    wanted = {
        "sleeps": (Kind.TIMEOUT, "did not stop by itself, its process was killed after 2 s"),
        "exits": (Kind.CRASH, "its process ended with exit code 3"),
        "crashes": (Kind.CRASH, "its process was killed by SIGSEGV"),
        "allocates": (Kind.MEMORY, "memory limit of 200 MB; MemoryError: Unable to allocate 8.00 GiB"),
        "raises": (Kind.ERROR, "ZeroDivisionError: two lines"),
        "leaves": (Kind.ERROR, "SystemExit: 3"),
        "returns what cannot be sent": (Kind.ERROR, "AttributeError: "),
    }
    with local_pool(misbehave, workers) as pool:
        bad = {how: pool.submit(how, limits=LIMITS) for how in wanted}
        good = [pool.submit("returns", limits=LIMITS) for _ in range(6)]
        for how, (kind, reason) in wanted.items():
            answer = bad[how].result(60)
            assert isinstance(answer, Failure), how
            assert answer.kind == kind
            assert answer.reason.startswith(reason)
            assert answer.seconds < 20
        answers = [future.result(60) for future in good]
    assert all(isinstance(answer, Success) for answer in answers)
    processes = {answer.value for answer in answers if isinstance(answer, Success)}
    assert os.getpid() not in processes
    assert len(processes) <= workers


def test_closing_a_pool_ends_its_processes() -> None:
    pool = local_pool(misbehave, 1)
    first = pool.submit("returns").result(60)
    assert isinstance(first, Success)
    stuck = pool.submit("sleeps")
    time.sleep(0.2)
    start = time.monotonic()
    pool.close()
    answer = stuck.result(15)
    assert isinstance(answer, Failure)
    assert time.monotonic() - start < 15  # the call sleeps for longer
    assert not Path(f"/proc/{first.value}").exists()


class CannotArrive:
    def __reduce__(self) -> Any:
        return (os.listdir, ("/no/such/folder",))

    def __call__(self) -> None: ...


def test_a_function_that_no_process_can_load_is_said_at_the_first_call() -> None:
    with local_pool(CannotArrive(), 1) as pool, pytest.raises(ChildProcessError, match="cannot start: FileNotFound"):
        pool.submit().result(60)


def test_work_is_shared_out_within_cores_and_memory() -> None:
    assert (share(100, None, None, None, 8, None).workers, share(100, None, None, None, 8, None).threads) == (8, 1)
    for tasks in (1, 2, 3, 7, 8, 1000):
        for n in (1, 2, 6, 64):
            made = share(tasks, None, None, None, n, None)
            assert made.workers * made.threads <= n
            assert made.workers <= tasks
            # threads can change the last digits of a sum: they must not follow from the number of workers
            assert {share(tasks, w, None, None, n, None).threads for w in (None, 1, 2, 5)} == {made.threads}
    assert share(100, None, None, 3584, 16, 16384).workers == 4
    assert share(100, None, None, 3584, 16, 100).workers == 1
    assert share(100, 12, 2, 3584, 4, 100) == share(100, 12, 2, None, 64, None)
    assert 1 <= cores() <= (os.cpu_count() or 1)
    assert (free_mb() or 1) > 0


@dataclass(frozen=True)
class Keyed(Row):
    """A row that is nothing but its key."""

    identity = ("sample", "method")

    sample: int
    method: int = 0
    seconds: float = 0.0
    reason: str = ""
    outcome = ""


def test_methods_are_measured_first_and_then_the_slow_ones_come_first() -> None:
    tasks = {key: Task(row=Keyed(*key), text="", kind=str(key[1])) for key in itertools.product(range(4), range(3))}
    schedule = Schedule(tasks.values())

    def following() -> object:
        task = schedule.next()
        return None if task is None else task.key

    assert schedule.seconds_left() is None
    assert [following() for _ in range(3)] == [(0, 0), (0, 1), (0, 2)]
    schedule.finished(tasks[0, 0], 1.0)
    schedule.finished(tasks[0, 2], 5.0)
    assert following() == (1, 1)  # the one that nothing is known of
    schedule.finished(tasks[0, 1], 3.0)
    assert schedule.seconds_left() == 3 * 1.0 + 2 * 3.0 + 3 * 5.0
    rest = [following() for _ in range(9)]
    assert rest == [(1, 2), (2, 2), (3, 2), (2, 1), (3, 1), (1, 0), (2, 0), (3, 0), None]


def test_a_task_waits_for_the_row_that_it_needs() -> None:
    first = Task(row=Keyed(0), text="", kind="network")
    second = Task(row=Keyed(1), text="", kind="sample", needs=first.key)
    schedule = Schedule([second, first])
    assert (schedule.next(), schedule.next()) == (first, None)
    schedule.finished(first, 2.0)
    assert schedule.seconds_left() == 2.0
    assert (schedule.next(), schedule.next()) == (second, None)


@dataclass(frozen=True)
class Misbehaving(Interval):
    """An interval domain with a fault, which it has not yet in the rehearsal."""

    how: str = ""

    def abstract(self, query: Query) -> Any:
        if query.network.input.shape == (4,):
            misbehave(self.how)
        return super().abstract(query)


def test_faults_of_methods_are_rows_and_the_run_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "bad", Misbehaving)
    faults = {
        "exits": (Verdict.ERROR, "its process ended with exit code 3"),
        "sleeps": (Verdict.TIMEOUT, "time limit of 1.5 s; did not stop by itself, its process was killed after 2 s"),
        "allocates": (Verdict.ERROR, "memory limit of 300 MB; MemoryError: "),
        "raises": (Verdict.ERROR, "ZeroDivisionError: two lines"),
    }
    methods = ["interval", *({"name": "bad", "how": how, "label": how} for how in faults)]
    limits = {"timeout_s": 1.5, "grace_s": 0.5, "memory_mb": 300}
    path = project(tmp_path, {"methods": methods, "data": {"csv": "data.csv", "count": 2}, **limits})
    rows = run(path, tmp_path / "out", workers=2)
    assert len(rows) == 10
    for row in rows:
        if row.method == "interval":
            assert row.verdict in (Verdict.VERIFIED, Verdict.FALSIFIED, Verdict.UNKNOWN)
            continue
        verdict, reason = faults[row.method]
        assert row.verdict == verdict
        assert row.reason.startswith(reason)
        assert row.lower_bounds is None
        assert (row.seconds >= 2) == (row.method == "sleeps")
