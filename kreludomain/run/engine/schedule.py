"""Which task comes next: those that are expected to take longest, so that no long one is left at the end.

A kind of tasks is expected to take the mean of the seconds that its tasks have taken in this run. A kind of which no
task is finished comes before all others, and of several such the one of which fewest tasks have been handed out: so all
are soon measured. A task that needs another one's row waits until that is there.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Generic

from kreludomain.run.engine.study import AnyTask, Key


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
    """Tasks that are to be done, those of which are done being said by :meth:`finished`."""

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
