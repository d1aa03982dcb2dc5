"""Whether a search ends in time, estimated from what it has gained so far: a tree doubles with each level."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field

from kreludomain.deadline import Deadline

#: From how many subproblems on it is asked whether a search ends.
_FIRST_ESTIMATE_AT = 60
#: The part of the levels that their gain suggests which a search is expected to take: at that many subproblems, at
#: most, and what is added for twice as many. On nine images of three networks, searches that ended took 0.4 of them at
#: 100 subproblems, 0.5 at 300 and 0.8 to 0.9 at 700.
_SHARE_AT_FIRST, _LARGEST_SHARE, _SHARE_PER_DOUBLING = 0.27, 0.8, 0.13


@dataclass(frozen=True)
class Progress:
    """Of a search: how many ``rows`` it is for, the least bound of all before any split, the least now, and how many
    subproblems were bounded."""

    rows: int
    first: float
    worst: float
    bounded: int

    @property
    def gain(self) -> float:
        """The mean gain of a level of the rows' trees so far."""
        return (min(0.0, self.worst) - self.first) / max(1.0, math.log2(self.bounded / self.rows + 1))


@dataclass
class ExpectedToEnd:
    """Whether a search is expected to end by the deadline.

    A level of its tree gains what levels gained so far, and all levels together have to gain what the least bound
    lacked before any split. What levels gain grows on the way, so the fewer subproblems there were, the fewer of the
    levels that this suggests are expected.
    """

    deadline: Deadline
    start: float = field(default_factory=time.monotonic)

    def __call__(self, progress: Progress) -> bool:
        if progress.bounded < _FIRST_ESTIMATE_AT:
            return True
        spent = time.monotonic() - self.start
        seconds = spent / progress.bounded * progress.rows
        doublings = math.log2(progress.bounded / _FIRST_ESTIMATE_AT)
        share = min(_LARGEST_SHARE, _SHARE_AT_FIRST + _SHARE_PER_DOUBLING * doublings)
        levels = share * -progress.first / max(progress.gain, 1e-9)
        result: bool = seconds * 2.0 ** min(levels, 60.0) < spent + self.deadline.remaining
        return result


@dataclass
class BranchingRate:
    """The rate of one way of branching so far: the seconds of a step, and the gain of a level of its tree."""

    seconds: float = math.nan
    gain: float = math.nan

    def update(self, seconds: float, gain: float) -> None:
        """Takes in a step: the latest counts for half of the mean."""
        for name, value in (("seconds", seconds), ("gain", max(gain, 1e-9))):
            known = getattr(self, name)
            setattr(self, name, value if math.isnan(known) else (known + value) / 2)

    def expected(self, lacking: float) -> float:
        """The binary logarithm of the seconds that it takes to raise a bound by ``lacking``."""
        return lacking / self.gain + math.log2(self.seconds)
