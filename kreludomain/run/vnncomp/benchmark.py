"""``kreludomain benchmark``: a list of instances, each in a process with hard limits, held against what is expected."""

from __future__ import annotations

import functools
import hashlib
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, as_completed
from dataclasses import dataclass, replace
from pathlib import Path

import typer

from kreludomain.errors import InputError
from kreludomain.run.config.methods import NamedMethod
from kreludomain.run.engine import machine
from kreludomain.run.engine.folder import RECORD, ROWS, Folder
from kreludomain.run.engine.pool import local_pool
from kreludomain.run.engine.record import Record
from kreludomain.run.engine.session import Session
from kreludomain.run.engine.worker import Done, Failure, warm_up
from kreludomain.run.output.screen import errors, screen
from kreludomain.run.vnncomp.instance import WORDS, Solver, finding, limits, solve
from kreludomain.run.vnncomp.instances import Instance, Outcome, read_instances
from kreludomain.run.vnncomp.tables import families_table, outcomes_csv

TABLE = "results.csv"


@dataclass(frozen=True)
class Selection:
    """Which instances of a list, and for how long: ``timeout_s`` is the most that any of them gets.

    ``text``: only those whose family, network or specification contains it.
    """

    text: str | None = None
    timeout_s: float | None = None

    def of(self, path: Path) -> list[Instance]:
        """The instances of a list, numbered as in the list. Raises :class:`InputError` if there are none."""
        chosen = [
            instance if self.timeout_s is None else replace(instance, timeout_s=min(instance.timeout_s, self.timeout_s))
            for instance in read_instances(path)
            if (self.text or "") in f"{instance.family} {instance.network} {instance.specification}"
        ]
        if not chosen:
            raise InputError(f"--filter {self.text}: {path} has no instance with this text in it")
        return chosen


@dataclass(frozen=True)
class Placement:
    """Where it is computed, and where the results go."""

    output: Path = Path("runs/benchmark")
    overwrite: bool = False
    resume: bool = False
    workers: int | None = None


def benchmark(path: Path, selection: Selection, solver: Solver, placement: Placement) -> None:
    """Solves the instances of a list; rows, a table and a plot go to the output folder, a summary to the screen.

    Answers that contradict what the list expects are on stderr, and make the exit code 1.
    """
    if placement.overwrite and placement.resume:
        raise InputError("--overwrite and --resume: give one of them, not both")
    output, method = placement.output, solver.make_method()
    Folder.check(output, placement.overwrite, placement.resume)
    warm_up()
    instances = selection.of(path)
    with Session("go on with --resume") as session:
        folder = session.open(output, placement.overwrite, (TABLE, "cactus.*"), placement.resume)
        outcomes = _begun(folder, instances, method, solver, placement.resume)
        for outcome in _outcomes(instances, outcomes, method, solver, placement.workers, folder):
            outcomes.append(outcome)
            folder.write(TABLE, outcomes_csv(outcomes))
            screen().print(_line(outcome, f"{len(outcomes)}/{len(instances)}"), soft_wrap=True)
        outcomes.sort(key=lambda outcome: outcome.index)
        _say(outcomes, output)
    if any(outcome.wrong for outcome in outcomes):
        raise typer.Exit(1)


def _begun(
    folder: Folder, instances: Sequence[Instance], method: NamedMethod, solver: Solver, resume: bool
) -> list[Outcome]:
    """What an earlier run of the same has found out, or nothing."""
    asked = {"method": method.resolved(), "memory_mb": solver.memory_mb, "timeouts": [i.timeout_s for i in instances]}
    networks = _hash(instance.paths[0] for instance in instances)
    now = Record(asked, networks, _hash(instance.paths[1] for instance in instances), machine.describe())
    if resume and (folder.path / ROWS).exists():
        now.check_resumes(Record.read(folder.path), folder.path)
        return [Outcome.read(row) for row in folder.resumed()]
    folder.write(RECORD, now.text())
    return []


def _hash(files: Iterable[Path]) -> str:
    found = hashlib.sha256()
    digests: dict[Path, bytes] = {}
    for file in files:
        if file not in digests:
            digests[file] = hashlib.sha256(file.read_bytes()).digest()
        found.update(digests[file])
    return found.hexdigest()


def _outcomes(
    instances: Sequence[Instance],
    there: Iterable[Outcome],
    method: NamedMethod,
    solver: Solver,
    workers: int | None,
    folder: Folder,
) -> Iterator[Outcome]:
    """The outcomes that are not there yet, as they come; each is in the folder, and its counterexample before it."""
    done = {outcome.index for outcome in there}
    missing = [instance for instance in instances if instance.index not in done]
    if not missing:
        return
    share = machine.share(len(instances), workers, solver.threads, solver.memory_mb, machine.cores(), machine.free_mb())
    with local_pool(functools.partial(solve, method.method), min(share.workers, len(missing)), share.threads) as pool:
        running: dict[Future[Done | Failure], Instance] = {
            pool.submit(*i.paths, i.timeout_s, limits=limits(i.timeout_s, solver.memory_mb)): i for i in missing
        }
        for future in as_completed(running):
            yield _kept(running[future], future.result(), folder)


def _kept(instance: Instance, answer: Done | Failure, folder: Folder) -> Outcome:
    found = finding(answer)
    outcome = Outcome(
        instance.index,
        instance.family,
        instance.network,
        instance.specification,
        "" if instance.expected is None else WORDS[instance.expected],
        found.word,
        found.seconds,
        found.stages,
        found.reason,
        None if found.counterexample is None else folder.keep(found.counterexample, instance.index, instance.family),
    )
    folder.append(outcome)
    return outcome


def _line(outcome: Outcome, place: str) -> str:
    wrong = f"  WRONG: {outcome.expected} is expected" if outcome.wrong else ""
    return f"{place}  {outcome.result:<7}  {outcome.seconds:8.2f} s  {outcome.name}{wrong}"


def _say(outcomes: Sequence[Outcome], output: Path) -> None:
    from kreludomain.run.vnncomp.plots import save_cactus  # matplotlib: imports for a second, and only here

    save_cactus(output, outcomes)
    screen().print(families_table(outcomes))
    screen().print(f"{TABLE}, cactus.png and cactus.svg are in {output}", soft_wrap=True)
    for outcome in outcomes:
        if outcome.wrong:
            where = f"; counterexample: {output / outcome.counterexample}" if outcome.counterexample else ""
            text = f"WRONG: {outcome.name}: {outcome.result}, but {outcome.expected} is expected{where}"
            errors().print(text, soft_wrap=True)
