"""What is seen of a run while it runs: a line on a terminal, JSON for programs, or nothing."""

from __future__ import annotations

import contextlib
import logging
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from enum import StrEnum
from pathlib import Path
from typing import TextIO

from kreludomain.run.certify.rows import Row
from kreludomain.run.engine.folder import json_line
from kreludomain.run.engine.runner import Work
from kreludomain.run.output.screen import progress
from kreludomain.verify import Verdict

LOG = logging.getLogger(__name__)

#: Verdicts that the line counts always; the others once they occur.
COUNTED = (Verdict.VERIFIED, Verdict.FALSIFIED, Verdict.UNKNOWN)

#: Seconds between two lines in the log.
EVERY = 30.0


class Mode(StrEnum):
    """What goes to the screen."""

    NORMAL = "normal"
    QUIET = "quiet"
    JSON = "json"


class Tally:
    """Counts, rate and time left of a run that is going on."""

    def __init__(self, work: Work, workers: int) -> None:
        self._work, self._workers = work, workers
        self._counts = Counter(row.verdict for row in work.rows)
        self._start, self._done = time.monotonic(), 0

    def add(self, row: Row) -> None:
        self._counts[row.verdict] += 1
        self._done += 1

    def line(self) -> str:
        """``9 verified, 2 falsified, 1 unknown, 31 samples/min, 3 min left``; a sample has a row for each method."""
        shown = [v for v in Verdict if v in COUNTED or self._counts[v]]
        parts = [f"{self._counts[v]} {v.value}" for v in shown]
        seconds = time.monotonic() - self._start
        if self._done:
            samples = self._done / len(self._work.run.config.methods)
            parts.append(f"{60 * samples / max(seconds, 1e-3):.3g} samples/min")
        left = self._work.seconds_left(self._workers)
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
def watched(mode: Mode, work: Work, workers: int) -> Iterator[Callable[[Row], None]]:
    """What to call with each row, for as long as the run goes on."""
    tally, logged = Tally(work, workers), time.monotonic()
    with progress(timed=False, enabled=mode == Mode.NORMAL) as bar:
        task = bar.add_task(tally.line(), total=work.run.size, completed=len(work.rows))

        def watch(row: Row) -> None:
            nonlocal logged
            tally.add(row)
            bar.update(task, advance=1, description=tally.line())
            if mode == Mode.JSON:
                sys.stdout.write(json_line(row) + "\n")
                sys.stdout.flush()
            if time.monotonic() - logged > EVERY:
                logged = time.monotonic()
                LOG.info("%d of %d rows: %s", len(work.rows), work.run.size, tally.line())

        yield watch


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to what is stderr at the time, which a progress bar replaces to stay below the text."""

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def log_to(level: str, file: Path | None) -> None:
    """Sends what kreludomain logs at ``level`` or above to stderr, or to the end of a file."""
    handler = _Stderr() if file is None else logging.FileHandler(file, encoding="utf-8")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s"))
    logger = logging.getLogger("kreludomain")
    for old in logger.handlers[:]:
        logger.removeHandler(old)
        old.close()
    logger.addHandler(handler)
    logger.setLevel(level.upper())
    logger.propagate = False
