"""The folder of a run: ``config.yaml``, ``run.json``, a row a line in ``results.jsonl``, and the files of its study.

Its contents are on the disk: a run that is killed loses the rows that it was working on and nothing else.
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import json
import math
import os
import platform
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
import torch
import typer
from filelock import FileLock, Timeout

import kreludomain
from kreludomain.errors import InputError
from kreludomain.run.output.screen import errors

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ROWS, CONFIG, RECORD = "results.jsonl", "config.yaml", "run.json"

#: Held by the process that writes into a folder; the system lets go of it when the process ends, however it ends.
LOCK = ".lock"

#: The exit code after Ctrl-C: 128 and the number of the signal, as shells have it.
INTERRUPTED = 130


def versions(**more: str) -> dict[str, str]:
    """The versions of the libraries that compute, for a run's configuration; ``more``: a command's own solvers."""
    return {
        "kreludomain": kreludomain.__version__,
        **more,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


class Folder:
    """The folder that a run writes into, and no other run meanwhile; rows are on the disk when they are appended."""

    def __init__(self, path: Path, overwrite: bool = False, besides: Iterable[str] = (), resume: bool = False) -> None:
        """Makes the folder, and removes an earlier run's files unless it is to be resumed.

        ``besides``: patterns of the files that this command writes besides rows, configuration and record; these and
        nothing else are removed. Raises :class:`InputError` as :meth:`check` does, and where another run is writing.
        """
        self.check(path, overwrite, resume)
        path.mkdir(parents=True, exist_ok=True)
        self._lock = FileLock(path / LOCK, is_singleton=True)  # a process may have one folder twice, others may not
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            raise InputError(f"{path}: another run is writing into this folder; use another --output") from None
        self.check(path, overwrite, resume)  # again: a run may have come and gone
        if not resume:
            patterns = (ROWS, CONFIG, RECORD, *besides)
            for old in (file for pattern in patterns for file in path.glob(pattern) if file.is_file()):
                old.unlink()
        self.path = path
        #: The names of the files that this process has written, in their order.
        self.written: list[str] = []

    @property
    def count(self) -> int:
        """How many rows the folder has: read from it, so that it is right at any interruption."""
        return len(read_rows(self.path / ROWS)[0])

    @staticmethod
    def check(path: Path, overwrite: bool, resume: bool = False) -> None:
        """Raises :class:`InputError` if a run cannot have the folder: a file, or results that are to stay."""
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: the output is a folder, this is a file")
        if (path / ROWS).exists() and not overwrite and not resume:
            ways = "--resume, --overwrite or another --output"
            raise InputError(f"{path / ROWS}: there are results already; use {ways}")

    def close(self) -> None:
        """Lets others write."""
        self._lock.release()

    def write(self, name: str, content: str | bytes) -> None:
        """Writes a file, perhaps in a folder within; it is there as a whole or not at all."""
        path = self.path / name
        path.parent.mkdir(exist_ok=True)
        draft = path.with_name(f"{path.name}.part")
        with draft.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            _to_disk(file)
        draft.replace(path)
        self.written.append(name)

    def write_all(self, files: Mapping[str, str] | Mapping[str, bytes]) -> None:
        """Writes files, contents by their names."""
        for name, content in files.items():
            self.write(name, content)

    def append(self, row: DataclassInstance | Mapping[str, Any]) -> None:
        """Adds a row, a dataclass or a mapping. Numbers that are not finite become ``None``: JSON has none of them."""
        with (self.path / ROWS).open("a", encoding="utf-8") as file:
            file.write(json_line(row) + "\n")
            _to_disk(file)

    def resumed(self) -> list[dict[str, Any]]:
        """The rows that an earlier run has written; a last line that a kill has torn is cut off.

        Raises :class:`InputError` for a line that no run has written.
        """
        path = self.path / ROWS
        rows, whole = read_rows(path)
        if path.exists() and path.stat().st_size > whole:
            os.truncate(path, whole)
        return rows


@contextlib.contextmanager
def session(again: str) -> Iterator[Callable[..., Folder]]:
    """A function that opens a command's folder, with the arguments of :class:`Folder`; Ctrl-C ends the command.

    It does so with a line on stderr, which says how many rows are saved, and ``again``: how to go on. However the work
    ends, the folder is free for others afterwards.
    """
    opened: list[Folder] = []

    def open_folder(*arguments: Any) -> Folder:
        opened.append(Folder(*arguments))
        return opened[-1]

    try:
        yield open_folder
    except KeyboardInterrupt:
        saved = [f"{folder.count} rows are in {folder.path / ROWS}; {again}" for folder in opened]
        errors().print(f"stopped: {', '.join(saved) or 'nothing is saved'}", soft_wrap=True)
        raise typer.Exit(INTERRUPTED) from None
    finally:
        for folder in opened:
            folder.close()


def read_rows(path: Path) -> tuple[list[dict[str, Any]], int]:
    """The rows of a file, and how many bytes of it they take: a last line that is torn is none.

    No file has no rows. Raises :class:`InputError` for any other line that is not a row.
    """
    rows: list[dict[str, Any]] = []
    whole = 0
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
        except ValueError:
            row = None
        if not isinstance(row, dict) or not line.endswith(b"\n"):
            if number == len(lines):
                break
            raise InputError(f"{path}: line {number} is not a row")
        rows.append(row)
        whole += len(line)
    return rows, whole


def json_line(values: DataclassInstance | Mapping[str, Any]) -> str:
    """A dataclass or a mapping as one line of JSON; numbers that are not finite become ``null``."""
    return json.dumps(_json(values if isinstance(values, Mapping) else dataclasses.asdict(values)), allow_nan=False)


def file_name(folder: str, parts: Iterable[object], suffix: str) -> str:
    """The name of a file that is kept with a row, ``folder/PARTS.suffix``; odd characters become underscores."""
    words = (re.sub(r"[^A-Za-z0-9.=-]+", "_", str(part)) for part in parts)
    return f"{folder}/{'_'.join(words)}.{suffix}"


def array_file(array: np.ndarray) -> bytes:
    """An array as the contents of a ``.npy`` file."""
    file = io.BytesIO()
    np.save(file, array)
    return file.getvalue()


def arrays_file(**arrays: np.ndarray) -> bytes:
    """Arrays as the contents of a ``.npz`` file."""
    file = io.BytesIO()
    np.savez(file, **arrays)  # type: ignore[arg-type]
    return file.getvalue()


def _to_disk(file: IO[Any]) -> None:
    file.flush()
    os.fsync(file.fileno())


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
