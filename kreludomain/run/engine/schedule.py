"""Which sample and method comes next: those that are expected to take longest, so that no long one is left at the end.

What is expected of a method is the mean of the seconds that it has taken in this run. One that has not finished a
sample yet comes before all others, and of several such the one that fewest samples have been handed out for: so all
are soon measured. (The number of parameters says nothing here: all tasks of a run are about the same network.)
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass, field


@dataclass
class Lane:
    """What is left to do for one method, and what has been measured of it."""

    waiting: deque[int] = field(default_factory=deque)
    handed_out: int = 0
    finished: int = 0
    seconds: float = 0.0

    @property
    def expected(self) -> float | None:
        """Seconds for a sample; ``None``: not known yet."""
        return self.seconds / self.finished if self.finished else None


class Schedule:
    """Samples by their positions, methods by theirs."""

    def __init__(self, tasks: Iterable[tuple[int, int]], methods: int) -> None:
        """``tasks``: sample and method of each."""
        self._lanes = [Lane() for _ in range(methods)]
        for sample, method in tasks:
            self._lanes[method].waiting.append(sample)

    def next(self) -> tuple[int, int] | None:
        """Sample and method of the next task; ``None`` when all are handed out."""
        lanes = [(method, lane) for method, lane in enumerate(self._lanes) if lane.waiting]
        if not lanes:
            return None
        method, lane = max(lanes, key=lambda item: _urgency(item[1]))
        lane.handed_out += 1
        return lane.waiting.popleft(), method

    def finished(self, method: int, seconds: float) -> None:
        """Takes note of a task that is done (in this run or in the one that it resumes)."""
        self._lanes[method].finished += 1
        self._lanes[method].seconds += seconds

    def seconds_left(self) -> float | None:
        """Seconds of work that has not been handed out; ``None`` while there is nothing to judge by."""
        known = [lane.expected for lane in self._lanes if lane.expected is not None]
        if not known:
            return None
        middle = sum(known) / len(known)
        return sum(len(lane.waiting) * (middle if lane.expected is None else lane.expected) for lane in self._lanes)


def _urgency(lane: Lane) -> tuple[bool, float]:
    return (True, -lane.handed_out) if lane.expected is None else (False, lane.expected)
