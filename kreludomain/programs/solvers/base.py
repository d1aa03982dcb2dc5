"""The interface of solvers, and the abilities that they declare.

A solver is prepared once with a :class:`~kreludomain.programs.model.Program` and then asked for many objectives. It
only has to return row multipliers: the certified value is computed from them by the program's side
(:mod:`~kreludomain.programs.certify`), so that no solver, no tolerance and no status can make a bound unsound.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np

from kreludomain.errors import InputError
from kreludomain.programs.model import Program
from kreludomain.property import RegionRows


@dataclass(frozen=True)
class Abilities:
    """The abilities of a solver beside linear rows.

    ``norms``: the norms of cones ``||A x + b|| <= r``, by their ``p``. ``integers``: variables that have to be whole
    (``Solver.minimise_integer``). ``warm_start``: other bounds and an earlier basis (``Solver.warm_session``).
    ``time_limit``: a solve ends when its seconds are over.
    """

    norms: frozenset[float] = frozenset()
    integers: bool = False
    warm_start: bool = False
    time_limit: bool = True


@dataclass(frozen=True, eq=False)
class LPSolution:
    """``dual``: a multiplier a row (positive: the row's lower side pushes), or ``None``; ``failure``: why not
    optimal."""

    dual: np.ndarray | None
    failure: str | None = None


class SolverSession(ABC):
    """A program in a solver's own form."""

    @abstractmethod
    def minimise(self, cost: np.ndarray, seconds: float) -> LPSolution:
        """Minimises ``cost . z`` within a time limit (``inf``: none). Never raises; failures are in the answer."""


@dataclass(frozen=True, eq=False)
class WarmSolution:
    """An answer of a :class:`WarmSession`: row multipliers, values of the variables, a ray where the solver says that
    there is no solution, each ``None`` where there is none; and the basis to go on from, in the solver's own form."""

    dual: np.ndarray | None
    point: np.ndarray | None
    ray: np.ndarray | None
    basis: Any


class WarmSession(ABC):
    """A linear program whose costs and bounds change, and which goes on from an earlier basis. Not to be shared by
    threads."""

    @abstractmethod
    def change_columns(self, columns: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Gives variables other bounds."""

    @abstractmethod
    def change_rows(self, rows: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        """Gives rows other sides."""

    @abstractmethod
    def minimise(
        self, cost: np.ndarray, basis: Any, cutoff: float, seconds: float, primal: bool = False
    ) -> WarmSolution:
        """Minimises ``cost . z`` from a basis (``None``: the last one).

        It may stop once the minimum is known to be above ``cutoff``. ``primal``: the basis is primal feasible (only the
        costs are others); if not, it is dual feasible (only bounds are).
        """


class MilpStatus(StrEnum):
    """How the solve of a mixed-integer program ended."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    TIME = "time limit"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class MilpSolution:
    """``bound``: no feasible point's objective is below it, as far as the solver's tolerances go (infinite where there
    is none); ``point``: the best point, if there is one; ``nodes`` of the search; ``message``: the solver's words."""

    status: MilpStatus
    bound: float
    point: np.ndarray | None
    nodes: int
    message: str


class Solver(ABC):
    """Solves programs. One of your own has a name, :meth:`session`, and :attr:`abilities` where it takes more than
    linear rows."""

    @property
    @abstractmethod
    def name(self) -> str:
        """The name in configurations and messages."""

    @property
    def abilities(self) -> Abilities:
        """The abilities beside linear rows."""
        return Abilities()

    @abstractmethod
    def session(self, program: Program) -> SolverSession:
        """A session for a program that the solver takes. Called by :meth:`prepare`, which has checked that.

        Raises :class:`InputError` where the solver refuses it all the same.
        """

    def prepare(self, program: Program) -> SolverSession:
        """A session for a program. Raises :class:`InputError` for a program that the solver cannot take."""
        self.check(program)
        return self.session(program)

    def warm_session(self, program: Program) -> WarmSession:
        """A session that goes on from earlier bases. Raises :class:`InputError` without that ability."""
        raise InputError(f"solver: {self.name} does not go on from an earlier basis")

    def minimise_integer(
        self, program: Program, cost: np.ndarray, seconds: float, gap: float, start: np.ndarray | None = None
    ) -> MilpSolution:
        """Minimises ``cost . z`` to a relative ``gap``; ``start`` is a point to begin with.

        Raises :class:`InputError` without that ability. Ctrl-C stops the solve and is raised.
        """
        raise InputError(f"solver: {self.name} takes no integers")

    def takes(self, region: RegionRows | None) -> bool:
        """Whether it takes a region's rows (``None``: the bounding box, which all take)."""
        return region is None or region.norms <= self.abilities.norms

    def check(self, program: Program) -> None:
        """Raises :class:`InputError` for a program that the solver cannot take."""
        refused = sorted(program.norms - self.abilities.norms)
        if refused:
            linear = "takes no such cone" if 2.0 in self.abilities.norms else "takes linear regions only (box, l_1)"
            cones = ", ".join(f"l_{norm:g}" for norm in refused)
            raise InputError(f"solver: {self.name} {linear}; for one with an {cones} cone use clarabel")
        if program.integer.any() and not self.abilities.integers:
            raise InputError(f"solver: {self.name} takes no integers")
