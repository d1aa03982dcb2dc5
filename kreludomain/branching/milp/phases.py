"""The relaxed network with the phases of some neurons given, as a linear program that is solved from a near basis.

A neuron ``x``, ``y = ReLU(x)``, with its triangle in the program is *active* by ``x >= 0``, ``y = x`` and *inactive* by
``x <= 0``, ``y = 0``: new bounds of two columns and a row, no new rows. The last basis stays dual feasible, so the dual
simplex method goes on from it.

The solver's values are not used: a bound is computed from its multipliers by weak duality, and a program counts as
infeasible if a ray of multipliers proves it.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from kreludomain.programs import RelaxedNetwork, RowColumnBounds, certified_minimum, proves_infeasible
from kreludomain.programs.solvers import HIGHS


@dataclass(frozen=True, eq=False)
class LPResult:
    """A solved program. ``bound``: certified, -inf where there are no multipliers, inf where it is proved infeasible.

    ``dual``: row multipliers; ``point``: values of the columns; ``None`` where the solver has none. ``basis`` to go on
    from.
    """

    bound: float
    dual: np.ndarray | None
    point: np.ndarray | None
    basis: Any


class PhaseSession:
    """A relaxed network in a solver, whose costs and phases change. Not to be shared by threads.

    ``phase`` is ``(n,)`` over the network's triangles: 1 active, -1 inactive, 0 either.
    Raises :class:`~kreludomain.errors.InputError` for a region that is not linear.
    """

    def __init__(self, relaxed: RelaxedNetwork) -> None:
        self.relaxed = relaxed
        self._session = HIGHS.warm_session(relaxed.program)
        self._phase = np.zeros(len(relaxed.triangles), dtype=np.int8)
        self._root_basis: Any = None

    def root(self, cost: np.ndarray, seconds: float) -> LPResult:
        """The program without phases, from the last such basis, which other costs leave primal feasible."""
        free, primal = np.zeros_like(self._phase), self._root_basis is not None
        found = self._solve(free, cost, self._root_basis, math.inf, seconds, primal)
        if found.point is not None:
            self._root_basis = found.basis
        return found

    def solve(self, phase: np.ndarray, cost: np.ndarray, basis: Any, cutoff: float, seconds: float) -> LPResult:
        """The program with these phases, from a basis that is dual feasible; may stop at a bound above ``cutoff``."""
        return self._solve(phase, cost, basis, cutoff, seconds, False)

    def _solve(
        self, phase: np.ndarray, cost: np.ndarray, basis: Any, cutoff: float, seconds: float, primal: bool
    ) -> LPResult:
        program = self.relaxed.program
        self._change_phase(phase)
        found = self._session.minimise(cost, basis, cutoff, seconds, primal)
        sides = self.sides(phase)
        bound = -math.inf if found.dual is None else certified_minimum(program, cost, found.dual, sides)
        if found.ray is not None and proves_infeasible(program, found.ray, sides):
            bound = math.inf
        return LPResult(bound if not math.isnan(bound) else -math.inf, found.dual, found.point, found.basis)

    def sides(self, phase: np.ndarray) -> RowColumnBounds:
        """The bounds of the program's variables and rows with these phases."""
        program, triangles = self.relaxed.program, self.relaxed.triangles
        lower, upper, row_upper = program.lower.copy(), program.upper.copy(), program.row_upper.copy()
        active, inactive = phase > 0, phase < 0
        lower[triangles.x[active]] = 0.0
        row_upper[triangles.below[active]] = 0.0
        upper[triangles.x[inactive]] = upper[triangles.y[inactive]] = 0.0
        return RowColumnBounds(lower, upper, program.row_lower, row_upper)

    def _change_phase(self, phase: np.ndarray) -> None:
        changed = np.flatnonzero(phase != self._phase)
        if len(changed):
            self._phase = phase
            triangles, sides = self.relaxed.triangles, self.sides(phase)
            columns = np.concatenate([triangles.x[changed], triangles.y[changed]])
            rows = triangles.below[changed]
            self._session.change_columns(columns, sides.lower[columns], sides.upper[columns])
            self._session.change_rows(rows, sides.row_lower[rows], sides.row_upper[rows])
