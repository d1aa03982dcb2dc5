"""The folder that a command has open while it works, and the line that it prints when it is stopped."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from types import TracebackType

import typer

from kreludomain.run.engine.folder import ROWS, Folder
from kreludomain.run.output.screen import errors

#: The exit code after Ctrl-C: 128 and the number of the signal, as shells have it.
INTERRUPTED = 130


class Session:
    """``with Session() as session:`` around a command's work; Ctrl-C in it ends the command with a line on stderr.

    The line says how many rows are saved, and ``again``: how to go on. However the work ends, the
    folder that it opened is free for others afterwards.
    """

    def __init__(self, again: str) -> None:
        self._again = again
        self._folder: Folder | None = None

    def open(self, path: Path, overwrite: bool = False, besides: Iterable[str] = (), resume: bool = False) -> Folder:
        """The command's folder; arguments and errors are those of :class:`Folder`."""
        self._folder = Folder(path, overwrite, besides, resume)
        return self._folder

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        try:
            if isinstance(error, KeyboardInterrupt):
                errors().print(f"stopped: {self._saved()}", soft_wrap=True)
                raise typer.Exit(INTERRUPTED) from None
        finally:
            if self._folder is not None:
                self._folder.close()

    def _saved(self) -> str:
        if self._folder is None:
            return "nothing is saved"
        return f"{self._folder.count} rows are in {self._folder.path / ROWS}; {self._again}"
