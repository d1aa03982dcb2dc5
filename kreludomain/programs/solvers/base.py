"""What a linear programming solver has to offer.

A solver is prepared once with a :class:`~kreludomain.programs.program.Program` and then asked for many objectives. It
only has to return row multipliers: the certified value is computed from them by the program itself, so that no solver,
no tolerance and no status can make a bound unsound.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

import numpy as np

from kreludomain.programs.program import Program


@dataclass(frozen=True, eq=False)
class Solution:
    """``dual``: a multiplier a row (positive: the row's lower side pushes), or ``None``; ``failure``: why not
    optimal."""

    dual: np.ndarray | None
    failure: str | None = None


class Session(Protocol):
    """A program in a solver's own form."""

    def minimise(self, cost: np.ndarray, seconds: float) -> Solution:
        """Minimises ``cost . z`` within a time limit (``inf``: none). Never raises for what a solver can do wrong."""
        ...


class Solver(Protocol):
    """Makes sessions."""

    def prepare(self, program: Program) -> Session:
        """Raises :class:`~kreludomain.errors.InputError` for a region that the solver cannot take."""
        ...
