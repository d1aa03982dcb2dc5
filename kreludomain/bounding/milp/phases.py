"""The relaxed network with the phases of some neurons given, as a linear program that HiGHS solves from a near basis.

A neuron ``x``, ``y = ReLU(x)``, with its triangle in the program is *active* by ``x >= 0``, ``y = x`` and *inactive* by
``x <= 0``, ``y = 0``: new sides of two columns and a row, no new rows. The last basis stays dual feasible, so the dual
simplex method goes on from it.

Nothing that HiGHS says of values is used: a bound is computed from its multipliers by weak duality, an infeasible
program is one for which its ray proves so.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np

from kreludomain.programs.program import Program, RowColumnBounds
from kreludomain.programs.solvers.highs import linear_model

#: HiGHS's numbers for two variants of the simplex method.
_DUAL, _PRIMAL = 1, 4

#: Relative to a bound: how far past it HiGHS goes before it stops, so that what its multipliers prove is past it too.
_BEYOND = 1e-7


@dataclass(frozen=True, eq=False)
class LPResult:
    """A solved program. ``bound``: certified, -inf where there are no multipliers, inf where it is proved infeasible.

    ``dual``: row multipliers; ``point``: values of the columns; ``None`` where HiGHS has none. ``basis`` to go on from.
    """

    bound: float
    dual: np.ndarray | None
    point: np.ndarray | None
    basis: Any


class PhaseSession:
    """A program in HiGHS, whose costs and phases change. Not to be shared by threads.

    ``phase`` is ``(n,)`` over the program's triangles: 1 active, -1 inactive, 0 either.
    Raises :class:`~kreludomain.errors.InputError` for a region that is not linear.
    """

    def __init__(self, program: Program) -> None:
        self.program = program
        self._highs: Any = highspy.Highs()  # its stubs lack some of its methods
        options: dict[str, Any] = {
            "output_flag": False,
            "threads": 1,
            "parallel": "off",
            "presolve": "off",
            "solver": "simplex",
        }
        for name, value in options.items():
            self._highs.setOptionValue(name, value)
        self._highs.passModel(linear_model(program))
        self._columns = np.arange(len(program.lower), dtype=np.int32)
        self._phase = np.zeros(len(program.triangles), dtype=np.int8)
        self._cost: np.ndarray | None = None
        self._first: Any = None
        self._last: Any = None

    def root(self, cost: np.ndarray, seconds: float) -> LPResult:
        """The program without phases, from the last such basis, which other costs leave primal feasible."""
        strategy = _DUAL if self._first is None else _PRIMAL
        found = self._solve(np.zeros_like(self._phase), cost, self._first, math.inf, seconds, strategy)
        if found.point is not None:
            self._first = found.basis
        return found

    def solve(self, phase: np.ndarray, cost: np.ndarray, basis: Any, enough: float, seconds: float) -> LPResult:
        """The program with these phases, from a basis that is dual feasible; may stop at a bound above ``enough``."""
        return self._solve(phase, cost, basis, enough, seconds, _DUAL)

    def _solve(
        self, phase: np.ndarray, cost: np.ndarray, basis: Any, enough: float, seconds: float, strategy: int
    ) -> LPResult:
        highs = self._highs
        if cost is not self._cost:
            highs.changeColsCost(len(cost), self._columns, cost)
            self._cost = cost
        self._set(phase)
        if basis is not None and basis is not self._last:
            highs.setBasis(basis)
        highs.setOptionValue("simplex_strategy", strategy)
        past = enough + _BEYOND * (1 + abs(enough)) if math.isfinite(enough) else math.inf
        highs.setOptionValue("objective_bound", min(past, 1e30))
        highs.setOptionValue("time_limit", min(highs.getRunTime() + max(seconds, 0.0), 1e20))
        highs.run()
        self._last = highs.getBasis()
        solution, size = highs.getSolution(), len(self.program.row_lower)
        sides = self.sides(phase)
        dual = np.array(solution.row_dual)[:size] if solution.dual_valid else None
        point = np.array(solution.col_value)[: len(cost)] if solution.value_valid else None
        bound = -math.inf if dual is None else self.program.certified_minimum(cost, dual, sides)
        if highs.getModelStatus() == highspy.HighsModelStatus.kInfeasible and self._refuted(sides):
            bound = math.inf
        return LPResult(bound if not math.isnan(bound) else -math.inf, dual, point, self._last)

    def _refuted(self, sides: RowColumnBounds) -> bool:
        """Whether HiGHS's ray proves that no point is within the sides: zero costs then have a positive minimum."""
        _, there, ray = self._highs.getDualRay()
        if not there:
            return False
        ray, none = np.array(ray)[: len(self.program.row_lower)], np.zeros(len(self._columns))
        return any(0 < self.program.certified_minimum(none, each, sides) < math.inf for each in (ray, -ray))

    def sides(self, phase: np.ndarray) -> RowColumnBounds:
        """The program's sides with these phases."""
        program, triangles = self.program, self.program.triangles
        lower, upper, row_upper = program.lower.copy(), program.upper.copy(), program.row_upper.copy()
        active, inactive = phase > 0, phase < 0
        lower[triangles.x[active]] = 0.0
        row_upper[triangles.below[active]] = 0.0
        upper[triangles.x[inactive]] = upper[triangles.y[inactive]] = 0.0
        return RowColumnBounds(lower, upper, program.row_lower, row_upper)

    def _set(self, phase: np.ndarray) -> None:
        changed = np.flatnonzero(phase != self._phase)
        if len(changed):
            self._phase = phase
            at, sides = self.program.triangles, self.sides(phase)
            columns = np.concatenate([at.x[changed], at.y[changed]]).astype(np.int32)
            rows = at.below[changed].astype(np.int32)
            self._highs.changeColsBounds(len(columns), columns, sides.lower[columns], sides.upper[columns])
            self._highs.changeRowsBounds(len(rows), rows, sides.row_lower[rows], sides.row_upper[rows])
