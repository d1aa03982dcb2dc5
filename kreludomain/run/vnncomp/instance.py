"""Instances of the verifier competition: lists of them, and one of them decided, as a command too.

An instance is an ONNX file and a VNN-LIB file; the answer is a verdict in the competition's format. It is found in a
process of its own: a process that does not stop, runs out of memory or crashes is an answer too.
"""

from __future__ import annotations

import dataclasses
import functools
import math
import pickle
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import numpy as np
import typer

from kreludomain.data.csv_file import csv_rows
from kreludomain.deadline import Deadline
from kreludomain.domain import Method
from kreludomain.errors import InputError
from kreludomain.network import Runtime, load
from kreludomain.property import load_vnnlib
from kreludomain.run.config.methods import NamedMethod, method_from_arguments
from kreludomain.run.config.networks import OutputName
from kreludomain.run.engine import machine
from kreludomain.run.engine.folder import INTERRUPTED
from kreludomain.run.engine.study import Threads
from kreludomain.run.engine.worker import HAS_MEMORY_LIMIT, Failure, Kind, Limits, ProcessWorker, Success
from kreludomain.run.output.screen import errors
from kreludomain.verify import Verdict, counterexample_text, decide

#: The columns of a list without a header.
COLUMNS = ("onnx", "vnnlib", "timeout")

#: Other names of columns.
ALIASES = {"timeout_s": "timeout", "family": "benchmark"}

#: The answers that a list may expect, in the words of several years. ``None``: nothing is known.
EXPECTED = {
    **dict.fromkeys(("unsat", "holds", "verified"), Verdict.VERIFIED),
    **dict.fromkeys(("sat", "violated", "falsified"), Verdict.FALSIFIED),
    **dict.fromkeys(("", "unknown", "disputed", "timeout", "error"), None),
}


@dataclass(frozen=True)
class Instance:
    """A row: ``index`` counts from 0, ``network`` and ``specification`` are as they are written there.

    ``family`` is its benchmark, its paths are relative to ``folder``, ``expected`` is the answer, if it is known.
    """

    index: int
    family: str
    network: str
    specification: str
    timeout_s: float
    expected: Verdict | None
    folder: Path

    @property
    def paths(self) -> tuple[Path, Path]:
        """Where the network and the specification are."""
        return self.folder / self.network, self.folder / self.specification


def read_instances(path: Path) -> list[Instance]:
    """The instances of a list, in its order.

    Without a header the columns are the network, the specification and the seconds, as in the competition. A header
    names the columns ``onnx``, ``vnnlib`` and ``timeout`` (or ``timeout_s``), and perhaps ``benchmark`` (or ``family``)
    and ``expected`` (``holds`` or ``unsat``, ``violated`` or ``sat``); others are not read. The family is the
    ``benchmark``, or the name of the list's folder. Raises :class:`InputError` with file and line, also for files that
    are not there.
    """
    rows = [(line, [cell.strip() for cell in row]) for line, row in csv_rows(path)]
    columns: Sequence[str] = COLUMNS
    if rows and {"onnx", "vnnlib"} <= {cell.lower() for cell in rows[0][1]}:
        columns = [ALIASES.get(cell.lower(), cell.lower()) for cell in rows.pop(0)[1]]
        missing = [name for name in COLUMNS if name not in columns]
        if missing:
            raise InputError(f"{path}:1: the header has no column {missing[0]}")
    if not rows:
        raise InputError(f"{path}: has no instances")
    named = [(line, dict(zip(columns, row, strict=False))) for line, row in rows]
    return [_instance(path, index, line, cells) for index, (line, cells) in enumerate(named)]


def _instance(path: Path, index: int, line: int, cells: dict[str, str]) -> Instance:
    missing = [name for name in COLUMNS if not cells.get(name)]
    if missing:
        raise InputError(f"{path}:{line}: {missing[0]} is missing")
    expected = cells.get("expected", "").lower()
    if expected not in EXPECTED:
        known = ", ".join(word for word in EXPECTED if word)
        raise InputError(f"{path}:{line}: expected: '{expected}' is not one of {known}")
    family = cells.get("benchmark") or path.absolute().parent.name
    timeout_s = _seconds(cells["timeout"])
    if timeout_s is None:
        raise InputError(f"{path}:{line}: timeout: '{cells['timeout']}' is not a number of seconds above 0")
    made = Instance(index, family, cells["onnx"], cells["vnnlib"], timeout_s, EXPECTED[expected], path.parent)
    for file in made.paths:
        if not file.is_file():
            raise InputError(f"{path}:{line}: {file}: no such file")
    return made


def _seconds(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if 0 < value < math.inf else None


#: The first line of a results file; the question is whether the assertions can be satisfied.
WORDS = {
    Verdict.VERIFIED: "unsat",
    Verdict.FALSIFIED: "sat",
    Verdict.UNKNOWN: "unknown",
    Verdict.TIMEOUT: "timeout",
    Verdict.ERROR: "error",
}

#: The verdict on an instance whose process returned nothing, by the reason.
FAILED = {
    Kind.INPUT: Verdict.ERROR,
    Kind.ERROR: Verdict.ERROR,
    Kind.TIMEOUT: Verdict.TIMEOUT,
    Kind.MEMORY: Verdict.UNKNOWN,
    Kind.CRASH: Verdict.UNKNOWN,
}

#: Seconds after the time limit at which a process is killed: work that respects its deadline returns before.
GRACE_S = 0.5


MethodName = Annotated[str, typer.Option("--method", help="A method's name, as in a configuration.")]
MethodOptions = Annotated[list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="One of its options.")]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="Where it computes: cpu, cuda.")]
Strict = Annotated[bool, typer.Option("--strict", help="Counterexamples lie exactly inside the inputs' intervals.")]
MemoryMb = Annotated[int | None, typer.Option(metavar="N", min=1, help="MiB that an instance may take.")]


def solver_method(name: str, options: Sequence[str], device: str | None) -> NamedMethod:
    """The method that command lines name. Raises :class:`InputError` for options that it does not take."""
    return method_from_arguments(name, options, **({} if device is None else {"device": device}))


@dataclass(frozen=True, eq=False)
class Finding:
    """The answer to an instance.

    ``text`` is its results file, ``counterexample`` ``(*input_shape)``, in the network's type, is there if it is
    falsified. ``seconds`` are those of the process, loading included, ``stages`` those of the method's stages.
    """

    verdict: Verdict
    text: str
    reason: str
    seconds: float = 0.0
    stages: Mapping[str, float] = field(default_factory=dict)
    counterexample: np.ndarray | None = None

    @property
    def word(self) -> str:
        return WORDS[self.verdict]


def solve(
    method: Method,
    strict: bool,
    network: Path,
    specification: Path,
    timeout_s: float | None,
    output: str | None = None,
) -> Finding:
    """Loads both files and decides them, in ``timeout_s`` seconds with everything; ``output``: which one of several.

    Raises :class:`InputError` for files that cannot be worked with.
    """
    deadline = Deadline.after(timeout_s)
    loaded = load(network, output, announce=False)
    asked = load_vnnlib(specification, loaded)
    answer = decide(loaded, asked, method, None if timeout_s is None else deadline.remaining, strict)
    text = f"{WORDS[answer.verdict]}\n"
    if answer.counterexample is not None:
        text = counterexample_text(answer.counterexample[None], Runtime(loaded, whole=True))
    point = None if answer.counterexample is None else answer.counterexample.cpu().numpy()
    reason = "; ".join((answer.reason, *loaded.notes))
    return Finding(answer.verdict, text, reason, answer.seconds, answer.stages, point)


def finding(answer: Success | Failure) -> Finding:
    """The answer of :func:`solve` in its process, or the one that its failure comes to."""
    if isinstance(answer, Success):
        found: Finding = dataclasses.replace(answer.value, seconds=answer.seconds)
        return found
    verdict = FAILED[answer.kind]
    return Finding(verdict, f"{WORDS[verdict]}\n", answer.reason, answer.seconds)


def verify(
    context: typer.Context,
    network: Annotated[Path, typer.Argument(metavar="NET.onnx", help="An ONNX file; .gz too.")],
    specification: Annotated[Path, typer.Argument(metavar="SPEC.vnnlib", help="A VNN-LIB file; .gz too.")],
    timeout: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Seconds, from the start of the process on.")
    ] = None,
    results_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the answer there too.")] = None,
    method: MethodName = "complete",
    option: MethodOptions = None,
    device: Device = None,
    output_name: OutputName = None,
    strict: Strict = False,
    threads: Threads = None,
    memory_mb: MemoryMb = None,
) -> None:
    """Decide one VNN-LIB property: unsat (it holds), sat and a counterexample, unknown, or timeout."""
    started: float = context.obj  # the time counts from here, by the monotonic clock
    named = solver_method(method, option or [], device)
    if results_file is not None and not results_file.absolute().parent.is_dir():
        raise InputError(f"--results-file {results_file}: there is no folder {results_file.parent}")
    if memory_mb is not None and not HAS_MEMORY_LIMIT:
        raise InputError("--memory-mb: only Linux can limit memory")
    # Nothing has been computed in this process yet, so that it can be forked.
    worker = ProcessWorker(
        pickle.dumps(functools.partial(solve, named.method, strict, output=output_name)),
        threads or machine.cores(),
        forked=True,
    )
    try:
        left = None if timeout is None else max(0.0, started + timeout - time.monotonic())
        limits = Limits(None if left is None else left + GRACE_S, memory_mb)
        answer = worker.run((network, specification, left), limits)
    except KeyboardInterrupt:
        raise typer.Exit(INTERRUPTED) from None
    finally:
        worker.kill()
    found = finding(answer)
    if results_file is not None:
        results_file.write_text(found.text, encoding="utf-8")
    if isinstance(answer, Failure) and answer.kind == Kind.INPUT:
        raise InputError(answer.reason)
    typer.echo(found.text, nl=False)
    stages = "".join(f", {name} {seconds:.3g} s" for name, seconds in found.stages.items())
    spent = time.monotonic() - started
    errors().print(f"{found.word} after {spent:.3g} s{stages}: {found.reason}", soft_wrap=True)
    if found.verdict == Verdict.ERROR:
        raise typer.Exit(1)
