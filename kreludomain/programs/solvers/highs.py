"""HiGHS through its own Python interface: the model is passed once, each objective starts from the last basis.

The first objective is solved by the interior point method with crossover, the others by the primal simplex method:
other costs leave the last basis primal feasible. On k-ReLU programs this took half the time of HiGHS's own choice. On
the largest ones the simplex method does not end in time; where it takes longer than the interior point method did, that
one solves all further objectives, without crossover, since multipliers are all that is needed.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from scipy import sparse

from kreludomain.errors import InputError
from kreludomain.programs.program import Program
from kreludomain.programs.solvers.base import Solution
from kreludomain.property import Box, L1Ball

#: HiGHS's number for the primal simplex method.
_PRIMAL = 4


@dataclass(frozen=True)
class HighsSolver:
    """HiGHS without cvxpy in between. Regions: box and l_1 ball."""

    def prepare(self, program: Program) -> HighsSession:
        return HighsSession(program)


class HighsSession:
    def __init__(self, program: Program) -> None:
        model = linear_model(program)
        self._count = program.rows.shape[0]
        self._columns = np.arange(model.num_col_, dtype=np.int32)
        self._padding = np.zeros(model.num_col_ - len(program.lower))
        self._highs = highspy.Highs()
        first: dict[str, Any] = {
            "output_flag": False,
            "threads": 1,
            "parallel": "off",
            "simplex_strategy": _PRIMAL,
        }
        for name, value in first.items():
            self._highs.setOptionValue(name, value)
        self._highs.passModel(model)
        self._has_basis = False
        #: Seconds that the simplex method may take from the last basis: what the interior point method took.
        self._worth_trying = math.inf

    def minimise(self, cost: np.ndarray, seconds: float) -> Solution:
        highs, end = self._highs, time.monotonic() + seconds
        highs.changeColsCost(len(self._columns), self._columns, np.concatenate([cost, self._padding]))
        if self._has_basis:
            status = self._run("simplex", min(seconds, self._worth_trying))
            if status != highspy.HighsModelStatus.kTimeLimit or time.monotonic() >= end:
                return self._solution(status)
            self._has_basis = False  # too large a program for it: from now on by the interior point method alone
            self._worth_trying = 0.0
            highs.setOptionValue("run_crossover", "off")
            highs.clearSolver()
        start = time.monotonic()
        status = self._run("ipm", end - start)
        if status == highspy.HighsModelStatus.kOptimal and self._worth_trying:
            self._has_basis, self._worth_trying = True, max(1.0, time.monotonic() - start)
        return self._solution(status)

    def _run(self, algorithm: str, seconds: float) -> highspy.HighsModelStatus:
        self._highs.setOptionValue("solver", algorithm)
        # HiGHS counts its time limit over all runs of a model.
        self._highs.setOptionValue("time_limit", min(self._highs.getRunTime() + max(seconds, 0.0), 1e20))
        self._highs.run()
        return self._highs.getModelStatus()

    def _solution(self, status: highspy.HighsModelStatus) -> Solution:
        solution = self._highs.getSolution()
        dual = np.array(solution.row_dual)[: self._count] if solution.dual_valid else None
        if status == highspy.HighsModelStatus.kOptimal:
            return Solution(dual)
        return Solution(dual, f"highspy: {self._highs.modelStatusToString(status).lower()}")


def linear_model(program: Program) -> highspy.HighsLp:
    """The program with its region in HiGHS's form, without costs; its own rows and variables come first.

    Raises :class:`InputError` for a region that is not linear.
    """
    if not isinstance(program.region, Box | L1Ball):
        raise InputError("solver: highspy takes linear regions only (box, l_1); for an l_2 ball use clarabel")
    rows, row_lower, row_upper, lower, upper = _with_region(program)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = len(lower), len(row_lower)
    model.col_cost_, model.col_lower_, model.col_upper_ = np.zeros(len(lower)), lower, upper
    model.row_lower_, model.row_upper_ = row_lower, row_upper
    matrix = rows.tocsc()
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_ = matrix.indptr, matrix.indices
    model.a_matrix_.value_ = matrix.data
    return model


def _with_region(program: Program) -> tuple[sparse.csr_matrix, np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """The program's rows and variables, and those of an l_1 ball: ``|x - middle| <= t``, ``sum t <= radius``."""
    region = program.region
    if not isinstance(region, L1Ball):
        return program.rows, program.row_lower, program.row_upper, program.lower, program.upper
    n, total = program.inputs, program.rows.shape[1]
    middle = region.middle.flatten().cpu().numpy()
    eye, none = sparse.eye(n), sparse.csr_matrix((n, total - n))
    rows = sparse.vstack(
        [
            sparse.hstack([program.rows, sparse.csr_matrix((program.rows.shape[0], n))]),
            sparse.hstack([eye, none, -eye]),
            sparse.hstack([-eye, none, -eye]),
            sparse.hstack([sparse.csr_matrix((1, total)), np.ones((1, n))]),
        ],
        format="csr",
    )
    row_upper = np.concatenate([program.row_upper, middle, -middle, [region.radius]])
    row_lower = np.concatenate([program.row_lower, np.full(2 * n + 1, -np.inf)])
    lower = np.concatenate([program.lower, np.zeros(n)])
    return rows, row_lower, row_upper, lower, np.concatenate([program.upper, np.full(n, region.radius)])
