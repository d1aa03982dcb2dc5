"""``kreludomain verify``: one instance of the verifier competition, within its time whatever happens."""

from __future__ import annotations

import functools
import pickle
import time
from dataclasses import dataclass
from pathlib import Path

import typer

from kreludomain.domain import Method
from kreludomain.errors import InputError
from kreludomain.run.engine import machine
from kreludomain.run.engine.session import INTERRUPTED
from kreludomain.run.engine.worker import HAS_MEMORY_LIMIT, Failure, Kind, Limits, ProcessWorker
from kreludomain.run.output.screen import errors
from kreludomain.run.vnncomp.instance import GRACE_S, Finding, finding, solve
from kreludomain.verify import Verdict


@dataclass(frozen=True)
class Resources:
    """The resources for solving an instance; ``None``: as much as there is."""

    timeout_s: float | None
    threads: int | None
    memory_mb: int | None


def verify(
    network: Path, specification: Path, method: Method, resources: Resources, results: Path | None, started: float
) -> None:
    """Decides an instance, and prints and writes the answer as the competition wants it.

    ``started``: when the time began to count, by the monotonic clock. Raises :class:`InputError` for files that cannot
    be worked with; the results file says ``error`` then.
    """
    if results is not None and not results.absolute().parent.is_dir():
        raise InputError(f"--results-file {results}: there is no folder {results.parent}")
    try:
        found = _solved(network, specification, method, resources, started)
    except InputError:
        _write(results, "error\n")
        raise
    _write(results, found.text)
    print(found.text, end="", flush=True)
    stages = "".join(f", {name} {seconds:.3g} s" for name, seconds in found.stages.items())
    spent = time.monotonic() - started
    errors().print(f"{found.word} after {spent:.3g} s{stages}: {found.reason}", soft_wrap=True)
    if found.verdict == Verdict.ERROR:
        raise typer.Exit(1)


def _solved(network: Path, specification: Path, method: Method, resources: Resources, started: float) -> Finding:
    if resources.memory_mb is not None and not HAS_MEMORY_LIMIT:
        raise InputError("--memory-mb: only Linux can limit memory")
    function, timeout_s = pickle.dumps(functools.partial(solve, method)), resources.timeout_s
    # Nothing has been computed in this process yet, so that it can be forked.
    worker = ProcessWorker(function, resources.threads or machine.cores(), forked=True)
    try:
        left = None if timeout_s is None else max(0.0, started + timeout_s - time.monotonic())
        answer = worker.run(
            (network, specification, left), Limits(None if left is None else left + GRACE_S, resources.memory_mb)
        )
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        worker.kill()
    if isinstance(answer, Failure) and answer.kind == Kind.INPUT:
        raise InputError(answer.reason)
    return finding(answer)


def _write(results: Path | None, text: str) -> None:
    if results is not None:
        results.write_text(text, encoding="utf-8")
