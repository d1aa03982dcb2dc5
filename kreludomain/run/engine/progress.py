"""The display of a run while it runs: a line on a terminal, JSON for programs, or nothing; and its log."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from enum import StrEnum
from pathlib import Path
from typing import Any, TextIO

from kreludomain.run.engine.folder import json_line
from kreludomain.run.engine.study import Row
from kreludomain.run.output.screen import progress, screen

LOG = logging.getLogger(__name__)

#: Seconds between two lines in the log.
EVERY = 30.0


class Mode(StrEnum):
    """The kind of output on the screen."""

    NORMAL = "normal"
    QUIET = "quiet"
    JSON = "json"


class Counts:
    """Counts, rate and time left of a run that is going on."""

    def __init__(self, outcomes: Sequence[str], rows: Iterable[Row], seconds_left: Callable[[], float | None]) -> None:
        """``outcomes``: those that are always shown. ``rows``: those that are there already."""
        self._outcomes, self._seconds_left = outcomes, seconds_left
        self._counts = Counter(row.outcome for row in rows)
        self._start, self._done = time.monotonic(), 0

    def add(self, row: Row) -> None:
        self._counts[row.outcome] += 1
        self._done += 1

    def line(self) -> str:
        """``9 verified, 2 falsified, 0 unknown, 31 rows/min, 3 min left``."""
        parts = [f"{self._counts[outcome]} {outcome}" for outcome in dict.fromkeys((*self._outcomes, *self._counts))]
        if self._done:
            parts.append(f"{60 * self._done / max(time.monotonic() - self._start, 1e-3):.3g} rows/min")
        left = self._seconds_left()
        if left is not None:
            parts.append(f"{duration(left)} left")
        return ", ".join(parts)


def duration(seconds: float) -> str:
    """Seconds as a person says it: ``40 s``, ``3 min``, ``2 h 5 min``."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 100 else f"{minutes // 60} h {minutes % 60} min"


@contextlib.contextmanager
def watched(mode: Mode, counts: Counts, total: int, there: int) -> Iterator[Callable[[Any, str | None], None]]:
    """A function to call with each row and its line on the screen, for as long as the run goes on.

    ``total``: how many rows there will be. ``there``: how many there are already.
    """
    logged = time.monotonic()
    with progress(enabled=mode == Mode.NORMAL) as bar:
        task = bar.add_task(counts.line(), total=total, completed=there)

        def watch(row: Any, line: str | None) -> None:
            nonlocal logged, there
            there += 1
            counts.add(row)
            bar.update(task, advance=1, description=counts.line())
            if mode == Mode.JSON:
                sys.stdout.write(json_line(row) + "\n")
                sys.stdout.flush()
            if mode == Mode.NORMAL and line is not None:
                screen().print(f"{there}/{total}  {line}", soft_wrap=True)
            if time.monotonic() - logged > EVERY:
                logged = time.monotonic()
                LOG.info("%d of %d rows: %s", there, total, counts.line())

        yield watch


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to the stderr of the moment, which a progress bar replaces to stay below the text."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def log_to(level: str, file: Path | None) -> None:
    """Sends kreludomain's log at ``level`` or above to stderr, or to the end of a file."""
    handler = _Stderr() if file is None else logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("kreludomain")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
