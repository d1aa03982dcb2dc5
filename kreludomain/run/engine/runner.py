"""The engine: runs a study from its configuration to its report. ``study`` says how a command becomes a study.

Rows are in the folder as they come. They do not depend on the number of workers or on the order of the work.
"""

from __future__ import annotations

import functools
import logging
from collections import deque
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Annotated, Any, Generic, Literal, Protocol

import typer

from kreludomain.errors import InputError
from kreludomain.run.config.files import ConfigFile, RunKeys
from kreludomain.run.engine import machine
from kreludomain.run.engine.folder import CONFIG, RECORD, ROWS, Folder, json_line, session, versions
from kreludomain.run.engine.pool import Pool, local_pool, ray_pool
from kreludomain.run.engine.progress import Counts, Mode, log_to, watched
from kreludomain.run.engine.record import Record
from kreludomain.run.engine.study import AnyRow, AnyTask, Computed, Config, Key, Study, Threads
from kreludomain.run.engine.worker import HAS_MEMORY_LIMIT, Failure, Success, warm_up
from kreludomain.run.output.screen import errors, screen

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class RunOptions:
    """The options that all studies share, which are those of their commands; ``None``: as the configuration says.

    ``again``: the command line that resumes the run, for the line after Ctrl-C. Raises :class:`InputError` for two
    options that contradict each other.
    """

    output: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Folder of the results, instead of the configuration's.")
    ] = None
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace the results that the folder has.")] = False
    resume: Annotated[bool, typer.Option("--resume", help="Go on with the results that the folder has.")] = False
    workers: Annotated[
        int | None, typer.Option(metavar="N", min=1, help="Processes; as many as fit the machine if not given.")
    ] = None
    threads: Threads = None
    cluster: Annotated[Literal["ray"] | None, typer.Option(help="Where to compute instead of on this machine.")] = None
    quiet: Annotated[bool, typer.Option("--quiet", help="Nothing but errors and the last line.")] = False
    json: Annotated[
        bool, typer.Option("--json", help="A line of JSON on stdout for each row as it comes, then a summary.")
    ] = False
    log_level: Annotated[
        Literal["debug", "info", "warning", "error"] | None,
        typer.Option(help="The level of the log; warnings if not given."),
    ] = None
    log_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Log to the end of a file, not to stderr.")] = (
        None
    )
    again: str = "--resume"

    def __post_init__(self) -> None:
        for one, other in (("overwrite", "resume"), ("quiet", "json")):
            if getattr(self, one) and getattr(self, other):
                raise InputError(f"--{one} and --{other}: give one of them, not both")

    @property
    def mode(self) -> Mode:
        """The kind of output on the screen."""
        return Mode.JSON if self.json else Mode.QUIET if self.quiet else Mode.NORMAL

    def applied(self, file: ConfigFile[Config]) -> ConfigFile[Config]:
        """The configuration with the options that replace its keys."""
        given = {name: getattr(self, name) for name in ("workers", "threads", "cluster")}
        update = {name: value for name, value in given.items() if value is not None}
        return replace(file, config=file.config.model_copy(update=update))


def run_study(
    kind: type[Study[Config, AnyTask, AnyRow]], options: RunOptions = RunOptions(), **arguments: Any
) -> list[AnyRow]:
    """Runs a study and returns its rows in the order of its tasks; ``arguments`` are those of its ``load``.

    Raises :class:`InputError` for wrong input, and ``typer.Exit`` with the exit code after Ctrl-C and
    for rows that cannot be right.
    """
    log_to(options.log_level or ("error" if options.mode == Mode.QUIET else "warning"), options.log_file)
    with session(f"go on with: {options.again}") as open_folder:
        file = options.applied(kind.load(**arguments))
        if file.config.memory_mb is not None and not HAS_MEMORY_LIMIT:
            raise InputError(f"{file.source}: memory_mb: only Linux can limit memory")
        target = file.output(options.output)
        Folder.check(target, options.overwrite, options.resume)  # before anything that takes time
        if file.config.cluster is None:
            warm_up(kind.__module__)
        study = kind.prepare(file)
        for note in study.notes():
            screen(mute=options.mode != Mode.NORMAL).print(f"note: {note}", soft_wrap=True, markup=False)
        folder = open_folder(target, options.overwrite, kind.files, options.resume)
        left = _begin(kind.name, study, file, folder, options.resume)
        try:
            run = Run(study, folder, left)
        except InputError as error:
            raise InputError(f"{folder.path / ROWS}: {error}") from None
        run.finish(file.config, options.mode)
        rows = run.in_order()
        _report(study, folder, rows, options.mode)
    problems = study.problems(folder, rows)
    for problem in problems:
        errors().print(problem, soft_wrap=True)
    if problems:
        raise typer.Exit(1)
    return rows


def _begin(
    name: str, study: Study[Config, AnyTask, AnyRow], file: ConfigFile[Config], folder: Folder, resume: bool
) -> dict[Key, AnyRow]:
    """The rows that a resumed run has left, by their keys; a new run writes its configuration and record."""
    now = Record(name, file.deciding(), study.contents())
    if resume and (folder.path / ROWS).exists():
        now.check_resumes(Record.read(folder.path), folder.path)
        try:
            rows = [study.read_row(values) for values in folder.resumed()]
        except ValueError as error:
            reason = " ".join(str(error).split())
            raise InputError(f"{folder.path / ROWS}: not the rows of {name} ({reason})") from None
        return {row.key: row for row in rows}
    folder.write(CONFIG, file.resolved(folder.path, versions(**study.solver_versions())))
    folder.write(RECORD, now.text())
    return {}


class Store(Protocol):
    """What keeps the rows of a run and their files: a :class:`Folder`, for one."""

    def write_all(self, files: Mapping[str, bytes], /) -> None:
        """Keeps files, contents by their names."""

    def append(self, row: Any, /) -> None:
        """Keeps a row, whose files are there already."""


class Run(Generic[Config, AnyTask, AnyRow]):
    """The rows of a study, those that are there and those that a pool is to compute."""

    def __init__(
        self, study: Study[Config, AnyTask, AnyRow], store: Store, rows: Mapping[Key, AnyRow] | None = None
    ) -> None:
        """``rows``: those of the run that is resumed. Raises :class:`InputError` for a row that is no task's."""
        self.study, self.store, self.rows = study, store, dict(rows or {})
        self._tasks = {task.key: task for task in study.tasks()}
        for key in self.rows:
            if key not in self._tasks:
                raise InputError(f"has a row of another run ({' '.join(map(str, key))})")
        self._schedule = Schedule(task for key, task in self._tasks.items() if key not in self.rows)
        for key, row in self.rows.items():
            self._schedule.finished(self._tasks[key], row.seconds)

    @property
    def size(self) -> int:
        """How many rows there will be."""
        return len(self._tasks)

    @property
    def missing(self) -> int:
        """How many rows are not there yet."""
        return self.size - len(self.rows)

    def in_order(self) -> list[AnyRow]:
        """The rows in the order of their tasks, not in the order in which they were finished."""
        return [self.rows[key] for key in self._tasks if key in self.rows]

    def finish(self, config: RunKeys, mode: Mode) -> None:
        """Computes the rows that are missing, and shows the progress."""
        if not self.missing:
            return
        with self.pool(config) as pool:
            LOG.info("%d of %d rows to do, %d workers", self.missing, self.size, pool.size)
            left = functools.partial(self.seconds_left, pool.size)
            counts = Counts(self.study.outcomes, self.rows.values(), left)
            with watched(mode, counts, self.size, len(self.rows)) as watch:
                for row in self.compute(pool):
                    watch(row, self.study.line(row))

    def pool(self, config: RunKeys, by_value: bool = False) -> Pool:
        """Workers that compute the study's rows, as many as fit the machine, or as the configuration says.

        ``by_value``: as in :func:`~kreludomain.run.engine.pool.local_pool`.
        """
        if config.cluster == "ray":
            return ray_pool(self.study.compute, config.workers, config.threads or 1, self.missing)
        cores, free_mb = machine.cores(), machine.free_mb()
        share = machine.share(self.size, config.workers, config.threads, config.memory_mb, cores, free_mb)
        return local_pool(self.study.compute, max(1, min(share.workers, self.missing)), share.threads, by_value)

    def seconds_left(self, workers: int) -> float | None:
        """How long it will take, roughly; ``None`` while there is nothing to judge by."""
        seconds = self._schedule.seconds_left()
        return None if seconds is None else seconds / workers

    def compute(self, pool: Pool) -> Iterator[AnyRow]:
        """The rows as they are finished; each is in the store, and its files before it."""
        running: dict[Future[Success | Failure], AnyTask] = {}
        while True:
            while len(running) < pool.size and (task := self._schedule.next()) is not None:
                needed = None if task.needs is None else self.rows[task.needs]
                running[pool.submit(task, needed, limits=self.study.limits(task))] = task
            if not running:
                return
            for future in wait(running, return_when=FIRST_COMPLETED).done:
                yield self._kept(running.pop(future), future.result())

    def _kept(self, task: AnyTask, answer: Success | Failure) -> AnyRow:
        """Writes a row into the store. One row's failure, whatever it is, does not take the others with it."""
        if isinstance(answer, Failure):
            LOG.warning("%s: %s", task.text, answer.reason)
            computed = Computed(self.study.failed(task, answer))
        else:
            computed = answer.value
        self.store.write_all(computed.files)
        row = computed.row
        self.store.append(row)
        self.rows[task.key] = row
        self._schedule.finished(task, answer.seconds)
        LOG.info("%s: %s after %.3g s (%s)", task.text, row.outcome, row.seconds, row.reason)
        return row


def _report(study: Study[Config, AnyTask, AnyRow], folder: Folder, rows: list[AnyRow], mode: Mode) -> None:
    """The study's report, then the last line: where it all is, or for programs a summary."""
    before = len(folder.written)
    study.report(folder, rows, screen(mute=mode != Mode.NORMAL))
    if mode == Mode.JSON:
        typer.echo(json_line({"summary": {"folder": str(folder.path), "rows": len(rows), **study.summary(rows)}}))
        return
    files = list(dict.fromkeys(folder.written[before:]))
    beside = f"; {', '.join(files)} beside it" if files else ""
    screen().print(f"{study.closing(rows)} in {folder.path / ROWS}{beside}", soft_wrap=True)


@dataclass
class _Kind(Generic[AnyTask]):
    """The tasks of a kind that are left, and the seconds that those which are finished have taken."""

    ready: deque[AnyTask] = field(default_factory=deque)
    blocked: int = 0
    handed_out: int = 0
    finished: int = 0
    seconds: float = 0.0

    @property
    def expected(self) -> float | None:
        """Seconds for a task; ``None``: not known yet."""
        return self.seconds / self.finished if self.finished else None

    @property
    def urgency(self) -> tuple[bool, float]:
        expected = self.expected
        return (True, -self.handed_out) if expected is None else (False, expected)


class Schedule(Generic[AnyTask]):
    """Tasks that are to be done: first those that are expected to take longest, so that no long one is left at the end.

    A kind of tasks is expected to take the mean of the seconds that its tasks have taken in this run. A kind of which
    no task is finished comes before all others, and of several such the one of which fewest tasks have been handed out:
    so all are soon measured. A task that needs another one's row waits until that is there.
    """

    def __init__(self, tasks: Iterable[AnyTask]) -> None:
        self._kinds: dict[str, _Kind[AnyTask]] = {}
        self._blocked: dict[Key, list[AnyTask]] = {}
        for task in tasks:
            kind = self._kinds.setdefault(task.kind, _Kind())
            if task.needs is None:
                kind.ready.append(task)
            else:
                kind.blocked += 1
                self._blocked.setdefault(task.needs, []).append(task)

    def next(self) -> AnyTask | None:
        """The next task; ``None`` when none is left that needs no other."""
        kinds = [kind for kind in self._kinds.values() if kind.ready]
        if not kinds:
            return None
        kind = max(kinds, key=lambda kind: kind.urgency)
        kind.handed_out += 1
        return kind.ready.popleft()

    def finished(self, task: AnyTask, seconds: float) -> None:
        """Takes note of a task that is done (in this run or in the one that it resumes)."""
        kind = self._kinds.setdefault(task.kind, _Kind())
        kind.finished += 1
        kind.seconds += seconds
        for waiting in self._blocked.pop(task.key, ()):
            self._kinds[waiting.kind].blocked -= 1
            self._kinds[waiting.kind].ready.append(waiting)

    def seconds_left(self) -> float | None:
        """Seconds of work that has not been handed out; ``None`` while there is nothing to judge by."""
        kinds = self._kinds.values()
        known = [kind.expected for kind in kinds if kind.expected is not None]
        if not known:
            return None
        mean = sum(known) / len(known)
        left = ((len(kind.ready) + kind.blocked, kind.expected) for kind in kinds)
        return sum(count * (mean if expected is None else expected) for count, expected in left)
