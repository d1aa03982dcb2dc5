"""A study: a command that computes rows one by one, keeps them in a folder, and reports on them.

How a command becomes a study: a package with one class derived from :class:`Study`, and that class in the table of
``kreludomain/run/studies.py``. The class says

- ``name``, ``help``: the command and its line in ``--help``;
- ``config_model``: the keys of its YAML file, a model derived from :class:`~kreludomain.run.config.files.RunKeys`,
  which has the keys that all studies share (``output``, ``workers``, ``timeout_s``, ...). A study that is configured in
  another way overrides :meth:`Study.load`, whose parameters are the command's;
- ``row_type``: the frozen dataclass (or a union of several) of its rows, derived from :class:`Row`. A row is read back
  from JSON by the types of its fields;
- :meth:`Study.prepare`: loads and checks everything, so that a mistake is one line before the first row. It returns an
  instance of the class, which is sent to every worker process, so pickle must be able to;
- :meth:`Study.tasks`: one :class:`Task` a row, with the row as it is before it is computed. A study derives a class
  from ``Task`` for the things a row is about. A task that cannot begin before another row is there names that row's key
  in ``needs``; ``compute`` is given the row;
- :meth:`Study.compute`: the row of a task, in a worker process. It may raise anything: :meth:`Study.failed` says
  in the task's row why there is no result. Arrays for pictures, which rows do not have, are returned as files;
- :meth:`Study.contents`: hashes of everything that was loaded, against which a resumed run is held;
- :meth:`Study.report`: tables on a console, files and figures in the folder, from all rows in the order of the tasks.

The engine (``runner``) does the rest: folder, lock, ``--resume``, processes with limits of time and memory, Ray, the
order of the tasks, progress, ``--json``, ``--quiet``, logs, Ctrl-C, exit codes.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, ClassVar, Generic, TypeVar

import typer
from pydantic import ConfigDict, TypeAdapter
from rich.console import Console

from kreludomain.run.config.files import ConfigFile, RunKeys, load_config
from kreludomain.run.engine.folder import Folder
from kreludomain.run.engine.worker import Failure, Limits

#: The identity of a row within its run; made of the row's own fields, so that it is found again in a file.
Key = tuple[str | int | float | None, ...]

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; configs/ has examples.")]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="Threads of each process.")]


class Row(ABC):
    """A line of ``results.jsonl``: a frozen dataclass with fields that JSON can say.

    Among them are ``seconds`` (how long it took) and ``reason`` (why it ended so, or has no result).
    """

    __pydantic_config__ = ConfigDict(extra="forbid")

    seconds: float
    reason: str

    #: The names of the fields that tell it from the other rows of its run.
    identity: ClassVar[tuple[str, ...]]

    @property
    def key(self) -> Key:
        """The key of the task that this is the row of."""
        return tuple(getattr(self, name) for name in self.identity)

    @property
    @abstractmethod
    def outcome(self) -> str:
        """The word under which the progress line counts the row."""


AnyRow = TypeVar("AnyRow", bound=Row)


@dataclass(frozen=True, kw_only=True, eq=False)
class Task(Generic[AnyRow]):
    """A ``row`` that is to be computed: as yet it has only the fields that say which one it is.

    ``text`` names it in logs. Tasks of one ``kind`` are expected to take about as long as each other. ``timeout_s``:
    the seconds that it may take, where they are not the configuration's. ``needs`` is the key of a task whose row must
    be there before.
    """

    row: AnyRow
    text: str
    kind: str
    timeout_s: float | None = None
    needs: Key | None = None

    @property
    def key(self) -> Key:
        return self.row.key


Config = TypeVar("Config", bound=RunKeys)
AnyTask = TypeVar("AnyTask", bound=Task[Any])


@dataclass(frozen=True)
class Computed(Generic[AnyRow]):
    """A row, and the files (contents by their names in the run's folder) that are kept with it."""

    row: AnyRow
    files: Mapping[str, bytes] = field(default_factory=dict)


class Study(ABC, Generic[Config, AnyTask, AnyRow]):
    """A command's configuration with everything that it names: loaded, checked, ready to go. See the module's text."""

    name: ClassVar[str]
    help: ClassVar[str]
    config_model: ClassVar[Any]
    row_type: ClassVar[Any]
    #: Patterns of the files that :meth:`report` and :meth:`compute` write: removed when a folder is used again.
    files: ClassVar[tuple[str, ...]] = ()
    #: The outcomes that the progress line always counts; others are counted once they occur.
    outcomes: ClassVar[tuple[str, ...]] = ()

    config: Config

    @classmethod
    def load(cls, config: ConfigPath) -> ConfigFile[Config]:
        """The configuration. The parameters of this method, with typer's annotations, are those of the command.

        Raises :class:`~kreludomain.errors.InputError`, one line that names the file and the key or line.
        """
        file: ConfigFile[Config] = load_config(config, cls.config_model)
        return file

    @classmethod
    @abstractmethod
    def prepare(cls, file: ConfigFile[Config]) -> Study[Config, AnyTask, AnyRow]:
        """Loads and checks everything. Raises ``InputError`` for mistakes that would fail every row."""

    @abstractmethod
    def tasks(self) -> Sequence[AnyTask]:
        """All rows that there will be, in the order in which :meth:`report` gets them. Their keys differ."""

    @abstractmethod
    def compute(self, task: AnyTask, needed: AnyRow | None) -> Computed[AnyRow]:
        """The row of a task; ``needed`` is the row that it ``needs``. Called in a worker process."""

    def failed(self, task: AnyTask, failure: Failure) -> AnyRow:
        """The row of a task that was killed, crashed or raised: the task's, with the reason and the seconds."""
        reason = failure.text(self.config.timeout_s)
        row: AnyRow = replace(task.row, reason=reason, seconds=failure.seconds)
        return row

    def limits(self, task: AnyTask) -> Limits:
        """The limits of a task's process, which is killed if it has not stopped by itself."""
        seconds = self.config.timeout_s if task.timeout_s is None else task.timeout_s
        return Limits(None if seconds is None else seconds + self.config.grace_s, self.config.memory_mb)

    @abstractmethod
    def contents(self) -> Mapping[str, str]:
        """Hashes of contents by names such as ``network``; rows of other contents do not belong to this run."""

    @abstractmethod
    def report(self, folder: Folder, rows: Sequence[AnyRow], console: Console) -> None:
        """Tables on the console (which may be mute), files and figures in the folder."""

    def notes(self) -> Sequence[str]:
        """Remarks on what was loaded: said once, before the first row, and in the report."""
        return ()

    def line(self, row: AnyRow) -> str | None:
        """A line on the screen for each row as it comes; ``None``: the progress bar says enough."""
        return None

    def summary(self, rows: Sequence[AnyRow]) -> Mapping[str, Any]:
        """The end of ``--json``, besides the folder and the number of rows."""
        return {}

    def closing(self, rows: Sequence[AnyRow]) -> str:
        """How much there is, for the last line on the screen."""
        return f"{len(rows)} rows"

    def problems(self, folder: Folder, rows: Sequence[AnyRow]) -> Sequence[str]:
        """Lines for stderr about rows that cannot be right, which make the exit code 1."""
        return ()

    def solver_versions(self) -> Mapping[str, str]:
        """Versions of solvers that only this study uses, for the written configuration."""
        return {}

    @classmethod
    def read_row(cls, values: Mapping[str, Any]) -> AnyRow:
        """The row that was written as ``values``. Raises pydantic's ``ValidationError`` (a ``ValueError``)."""
        row: AnyRow = _adapter(cls.row_type).validate_python(values)
        return row


@cache
def _adapter(row_type: Any) -> TypeAdapter[Any]:
    return TypeAdapter(row_type)
