"""Any solver that cvxpy knows, by its name. The problem is compiled once, with the costs as its parameter."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np
from cvxpy.constraints import SOC
from cvxpy.reductions.solvers.defines import SOLVER_MAP_CONIC
from numpy.typing import NDArray

from kreludomain.errors import InputError
from kreludomain.programs.model import Program
from kreludomain.programs.solvers.base import Abilities, LPSolution, Solver, SolverSession

#: Solver options that set a time limit in seconds, by cvxpy's name of the solver.
TIME_LIMITS: dict[str, Callable[[float], dict[str, Any]]] = {
    "CLARABEL": lambda seconds: {"time_limit": seconds},
    "HIGHS": lambda seconds: {"time_limit": seconds},
    "OSQP": lambda seconds: {"time_limit": seconds},
    "SCS": lambda seconds: {"time_limit_secs": seconds},
    "SCIPY": lambda seconds: {"scipy_options": {"method": "highs", "time_limit": seconds}},
}

#: cvxpy's names of norms. Those of norm 1 and inf become rows; norm 2 is for solvers with second-order cones.
NORMS: dict[float, int | str] = {1.0: 1, 2.0: 2, math.inf: "inf"}


@dataclass(frozen=True)
class CvxpySolver(Solver):
    """``solver``: an entry of ``cvxpy.installed_solvers()``."""

    solver: str

    @property
    def name(self) -> str:
        return self.solver.lower()

    @property
    def abilities(self) -> Abilities:
        conic = SOLVER_MAP_CONIC.get(self.solver)
        supported: Sequence[Any] = [] if conic is None else conic.SUPPORTED_CONSTRAINTS
        norms = frozenset(NORMS) if SOC in supported else frozenset(NORMS) - {2.0}
        return Abilities(norms=norms, time_limit=self.solver in TIME_LIMITS)

    def session(self, program: Program) -> CvxpySession:
        session = CvxpySession(program, self.solver)
        try:
            session.compile()
        except (cvxpy.error.SolverError, cvxpy.error.DCPError) as error:
            raise InputError(f"solver: {self.name}: {str(error).splitlines()[0]}") from None
        return session


class CvxpySession(SolverSession):
    """A program in cvxpy's form, compiled for a solver."""

    def __init__(self, program: Program, solver: str) -> None:
        whole = program.with_region_rows()
        self._solver, rows = solver, whole.rows
        self._size, self._whole_size = program.rows.shape[0], rows.shape[0]
        self._cost = cvxpy.Parameter(len(whole.lower))
        self._padding = np.zeros(len(whole.lower) - len(program.lower))
        z = cvxpy.Variable(len(whole.lower))
        equal = whole.row_lower == whole.row_upper
        below = np.isfinite(whole.row_lower) & ~equal
        above = np.isfinite(whole.row_upper) & ~equal
        # The rows in three kinds, each with the sign its multiplier has in our convention.
        kinds: tuple[tuple[NDArray[np.bool_], float, Callable[[Any], Any]], ...] = (
            (equal, -1.0, lambda a: a @ z == whole.row_lower[equal]),
            (above, -1.0, lambda a: a @ z <= whole.row_upper[above]),
            (below, 1.0, lambda a: a @ z >= whole.row_lower[below]),
        )
        self._kinds = [
            (np.flatnonzero(chosen), sign, make(rows[np.flatnonzero(chosen)]))
            for chosen, sign, make in kinds
            if chosen.any()
        ]
        constraints = [kind[2] for kind in self._kinds]
        constraints += [z >= whole.lower, z <= whole.upper]
        x = z[: program.inputs]
        constraints += [cvxpy.norm(c.matrix @ x + c.offset, NORMS[c.norm]) <= c.radius for c in program.cones]
        self._problem = cvxpy.Problem(cvxpy.Minimize(self._cost @ z), constraints)

    def compile(self) -> None:
        """Brings the problem into the solver's form, which is kept. Raises cvxpy's errors where it has no such form."""
        self._cost.value = np.zeros(self._cost.size)
        self._problem.get_problem_data(self._solver)

    def minimise(self, cost: np.ndarray, seconds: float) -> LPSolution:
        self._cost.value = np.concatenate([cost, self._padding])
        name, limited = self._solver.lower(), self._solver in TIME_LIMITS and seconds < 1e9
        limit = TIME_LIMITS[self._solver](seconds) if limited else {}
        try:
            with warnings.catch_warnings():  # inaccurate solutions are reported in the solution
                warnings.simplefilter("ignore")
                # cvxpy 1.9 passes HiGHS the last solution in a way that makes it fail now and then
                self._problem.solve(solver=self._solver, warm_start=False, **limit)
        except (cvxpy.error.SolverError, cvxpy.error.DCPError, ValueError, ArithmeticError) as error:
            return LPSolution(None, f"{name}: {str(error).splitlines()[0]}")
        if any(constraint.dual_value is None for _, _, constraint in self._kinds):
            return LPSolution(None, f"{name}: {self._problem.status}")
        dual = np.zeros(self._whole_size)
        for rows, sign, constraint in self._kinds:
            dual[rows] += sign * np.atleast_1d(constraint.dual_value)
        failure = None if self._problem.status == cvxpy.OPTIMAL else f"{name}: {self._problem.status}"
        return LPSolution(dual[: self._size], failure)
