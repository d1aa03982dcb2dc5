"""Any solver that cvxpy knows, by its name. The problem is compiled once, with the costs as its parameter."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import cvxpy
import numpy as np
from numpy.typing import NDArray

from kreludomain.errors import InputError
from kreludomain.programs.program import Program
from kreludomain.programs.solvers.base import Solution
from kreludomain.property import L1Ball, L2Ball
from kreludomain.property.region import _Ball

#: Solver options that set a time limit in seconds, by cvxpy's name of the solver.
TIME_LIMITS: dict[str, Callable[[float], dict[str, Any]]] = {
    "CLARABEL": lambda seconds: {"time_limit": seconds},
    "HIGHS": lambda seconds: {"time_limit": seconds},
    "OSQP": lambda seconds: {"time_limit": seconds},
    "SCS": lambda seconds: {"time_limit_secs": seconds},
    "SCIPY": lambda seconds: {"scipy_options": {"method": "highs", "time_limit": seconds}},
}


@dataclass(frozen=True)
class CvxpySolver:
    """``name``: an entry of ``cvxpy.installed_solvers()``."""

    name: str

    def prepare(self, program: Program) -> CvxpySession:
        session = CvxpySession(program, self.name)
        try:
            session.compile()
        except (cvxpy.error.SolverError, cvxpy.error.DCPError) as error:
            raise InputError(f"solver: {self.name.lower()}: {str(error).splitlines()[0]}") from None
        return session


class CvxpySession:
    def __init__(self, program: Program, name: str) -> None:
        self._name = name
        self._cost = cvxpy.Parameter(len(program.lower))
        z = cvxpy.Variable(len(program.lower))
        equal = program.row_lower == program.row_upper
        below = np.isfinite(program.row_lower) & ~equal
        above = np.isfinite(program.row_upper) & ~equal
        rows = program.rows
        # The rows in three kinds, each with the sign its multiplier has in our convention.
        kinds: tuple[tuple[NDArray[np.bool_], float, Callable[[Any], Any]], ...] = (
            (equal, -1.0, lambda a: a @ z == program.row_lower[equal]),
            (above, -1.0, lambda a: a @ z <= program.row_upper[above]),
            (below, 1.0, lambda a: a @ z >= program.row_lower[below]),
        )
        self._kinds = [
            (np.flatnonzero(chosen), sign, make(rows[np.flatnonzero(chosen)]))
            for chosen, sign, make in kinds
            if chosen.any()
        ]
        self._size = rows.shape[0]
        constraints = [kind[2] for kind in self._kinds]
        constraints += [z >= program.lower, z <= program.upper]
        if isinstance(program.region, _Ball):
            middle = program.region.middle.flatten().cpu().numpy()
            kind: dict[type, int] = {L1Ball: 1, L2Ball: 2}
            constraints.append(
                cvxpy.norm(z[: program.inputs] - middle, kind[type(program.region)]) <= program.region.radius
            )
        self._problem = cvxpy.Problem(cvxpy.Minimize(self._cost @ z), constraints)

    def compile(self) -> None:
        """Brings the problem into the solver's form, which is kept. Raises cvxpy's errors where it has no such form."""
        self._cost.value = np.zeros(self._cost.size)
        self._problem.get_problem_data(self._name)

    def minimise(self, cost: np.ndarray, seconds: float) -> Solution:
        self._cost.value = cost
        limit = TIME_LIMITS[self._name](seconds) if self._name in TIME_LIMITS and seconds < 1e9 else {}
        try:
            with warnings.catch_warnings():  # inaccurate solutions are reported in the solution
                warnings.simplefilter("ignore")
                # cvxpy 1.9 passes HiGHS the last solution in a way that makes it fail now and then
                self._problem.solve(solver=self._name, warm_start=False, **limit)
        except (cvxpy.error.SolverError, cvxpy.error.DCPError, ValueError, ArithmeticError) as error:
            return Solution(None, f"{self._name.lower()}: {str(error).splitlines()[0]}")
        if any(constraint.dual_value is None for _, _, constraint in self._kinds):
            return Solution(None, f"{self._name.lower()}: {self._problem.status}")
        dual = np.zeros(self._size)
        for rows, sign, constraint in self._kinds:
            dual[rows] += sign * np.atleast_1d(constraint.dual_value)
        failure = None if self._problem.status == cvxpy.OPTIMAL else f"{self._name.lower()}: {self._problem.status}"
        return Solution(dual, failure)
