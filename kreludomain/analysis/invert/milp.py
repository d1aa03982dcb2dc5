"""Mixed-integer linear programs: affine expressions, rows over them, and HiGHS."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

import highspy
import numpy as np
from scipy import sparse

from kreludomain.deadline import Deadline

#: How far HiGHS may leave a row or an integer unsatisfied. What it prunes it prunes beyond that, so the programs it
#: solves have a little more room than ours and its dual bounds err to the safe side by what such a room is worth.
FEASIBILITY = 1e-9

#: Seconds between two looks for Ctrl-C while HiGHS works.
_LOOK = 0.1


@dataclass(frozen=True, eq=False)
class Affine:
    """``matrix @ z + constant`` in the columns ``z`` of a program; narrower than it where columns came later."""

    matrix: sparse.csr_matrix
    constant: np.ndarray

    __array_ufunc__ = None  # so that ``vector * expression`` is ours and not an array of expressions

    def __len__(self) -> int:
        return len(self.constant)

    def __add__(self, other: Affine) -> Affine:
        width = max(self.matrix.shape[1], other.matrix.shape[1])
        return Affine(_widen(self.matrix, width) + _widen(other.matrix, width), self.constant + other.constant)

    def __sub__(self, other: Affine) -> Affine:
        return self + -1.0 * other

    def __rmul__(self, factor: float | np.ndarray) -> Affine:
        """Every entry times a number, or times its own entry of a vector."""
        factors = np.broadcast_to(factor, self.constant.shape).astype(float)
        return Affine((sparse.diags(factors) @ self.matrix).tocsr(), factors * self.constant)

    def __getitem__(self, entries: np.ndarray) -> Affine:
        return Affine(self.matrix[entries], self.constant[entries])

    def plus(self, constant: float | np.ndarray) -> Affine:
        return Affine(self.matrix, self.constant + constant)

    def through(self, weight: sparse.csr_matrix) -> Affine:
        """``weight`` times the expression."""
        return Affine((weight @ self.matrix).tocsr(), weight @ self.constant)

    def placed(self, entries: np.ndarray, size: int) -> Affine:
        """The expression of ``size`` entries that has this one's at ``entries`` and zeros elsewhere."""
        ones = np.ones(len(self))
        return self.through(sparse.csr_matrix((ones, (entries, np.arange(len(self)))), shape=(size, len(self))))

    def total(self) -> Affine:
        """The sum of all entries, as an expression of one."""
        return self.through(sparse.csr_matrix(np.ones((1, len(self)))))

    def at(self, point: np.ndarray) -> np.ndarray:
        """The value at a point ``z``."""
        return self.matrix @ point[: self.matrix.shape[1]] + self.constant


def stacked(parts: Sequence[Affine]) -> Affine:
    """Expressions one below the other."""
    width = max(part.matrix.shape[1] for part in parts)
    matrix = sparse.vstack([_widen(part.matrix, width) for part in parts], format="csr")
    return Affine(matrix, np.concatenate([part.constant for part in parts]))


def _widen(matrix: sparse.csr_matrix, columns: int) -> sparse.csr_matrix:
    return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))


class Status(StrEnum):
    """How a solve ended."""

    OPTIMAL = "optimal"
    INFEASIBLE = "infeasible"
    TIME = "time limit"
    FAILED = "failed"


@dataclass(frozen=True, eq=False)
class Solution:
    """What HiGHS says: ``bound`` is its dual bound, which no feasible point's objective is below (infinite where there
    is none), ``point`` its best point, if it has one."""

    status: Status
    bound: float
    point: np.ndarray | None
    nodes: int
    said: str


@dataclass
class Milp:
    """``min cost . z`` over rows, bounds and integers, as they are collected."""

    lower: list[np.ndarray] = field(default_factory=list)
    upper: list[np.ndarray] = field(default_factory=list)
    integer: list[np.ndarray] = field(default_factory=list)
    blocks: list[sparse.csr_matrix] = field(default_factory=list)
    row_lower: list[np.ndarray] = field(default_factory=list)
    row_upper: list[np.ndarray] = field(default_factory=list)
    count: int = 0

    def new(self, lower: np.ndarray, upper: np.ndarray, integer: bool = False) -> Affine:
        """New columns with these bounds, as an expression."""
        size, start = len(lower), self.count
        self.lower.append(np.asarray(lower, dtype=float))
        self.upper.append(np.asarray(upper, dtype=float))
        self.integer.append(np.full(size, integer))
        self.count += size
        places = np.arange(size), start + np.arange(size)
        return Affine(sparse.csr_matrix((np.ones(size), places), shape=(size, self.count)), np.zeros(size))

    def binaries(self, size: int) -> Affine:
        return self.new(np.zeros(size), np.ones(size), integer=True)

    def named(self, value: Affine, lower: np.ndarray, upper: np.ndarray) -> Affine:
        """New columns that equal an expression: what is used in many rows is written out once."""
        columns = self.new(lower, upper)
        self.require(value - columns, 0.0, 0.0)
        return columns

    def require(self, value: Affine, lower: float | np.ndarray = -np.inf, upper: float | np.ndarray = np.inf) -> None:
        """Rows ``lower <= value <= upper``."""
        if len(value):
            self.blocks.append(value.matrix)
            self.row_lower.append(np.broadcast_to(lower, (len(value),)) - value.constant)
            self.row_upper.append(np.broadcast_to(upper, (len(value),)) - value.constant)

    @property
    def binary_count(self) -> int:
        return int(sum(part.sum() for part in self.integer))

    def solve(
        self,
        cost: Affine,
        deadline: Deadline = Deadline(),
        gap: float = 1e-6,
        start: np.ndarray | None = None,
        relaxed: bool = False,
        fixed: tuple[Affine, np.ndarray] | None = None,
    ) -> Solution:
        """Minimises an expression of one entry, to a relative ``gap`` or until the deadline.

        ``start`` is a point to begin with, ``relaxed`` leaves integrality out, ``fixed`` are columns that take the
        given values (the bound is then one under this condition). Ctrl-C stops HiGHS and is raised.
        """
        if deadline.passed:
            return Solution(Status.TIME, -math.inf, None, 0, "no time was left")
        highs = highspy.Highs()
        options = {
            "output_flag": False,
            "threads": 1,
            "time_limit": min(deadline.remaining, 1e20),
            "mip_rel_gap": gap,
            "mip_abs_gap": 1e-9,
            "mip_feasibility_tolerance": FEASIBILITY,
            "primal_feasibility_tolerance": FEASIBILITY,
            "dual_feasibility_tolerance": FEASIBILITY,
        }
        for name, value in options.items():
            highs.setOptionValue(name, value)
        model = self._model(cost, relaxed)
        if fixed is not None:
            columns, values = fixed[0].matrix.indices, fixed[1]
            for name in ("col_lower_", "col_upper_"):
                side = np.array(getattr(model, name))
                side[columns] = values
                setattr(model, name, side)
        highs.passModel(model)
        if start is not None:
            known = highspy.HighsSolution()
            known.col_value = start.tolist()
            highs.setSolution(known)
        _run(highs)
        return self._solution(highs, cost, relaxed)

    def _solution(self, highs: highspy.Highs, cost: Affine, relaxed: bool) -> Solution:
        found, info = highs.getModelStatus(), highs.getInfo()
        status, solution = _STATUS.get(found, Status.FAILED), highs.getSolution()
        known = status in (Status.OPTIMAL, Status.TIME)
        feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
        point = np.array(solution.col_value) if known and feasible else None
        bound = math.inf if status == Status.INFEASIBLE else -math.inf
        if known and self.binary_count and not relaxed:
            bound = info.mip_dual_bound + float(cost.constant[0])
        elif known and solution.dual_valid:
            bound = self._dual_value(cost, np.array(solution.row_dual))
        said = "HiGHS: " + highs.modelStatusToString(found).lower()
        return Solution(status, bound, point, max(0, int(info.mip_node_count)), said)

    def _dual_value(self, cost: Affine, dual: np.ndarray) -> float:
        """What row multipliers prove of the relaxation, whatever they are: weak duality over rows and column bounds."""
        rows = sparse.vstack([_widen(block, self.count) for block in self.blocks], format="csr")
        sides = np.where(dual > 0, np.concatenate(self.row_lower), np.concatenate(self.row_upper))
        dual, sides = (np.where(np.isfinite(sides), values, 0.0) for values in (dual, sides))
        reduced = _widen(cost.matrix, self.count).toarray()[0] - rows.T @ dual
        over_box = np.where(reduced > 0, reduced * np.concatenate(self.lower), reduced * np.concatenate(self.upper))
        return float(cost.constant[0] + dual @ sides + over_box.sum())

    def _model(self, cost: Affine, relaxed: bool) -> highspy.HighsLp:
        rows = sparse.vstack([_widen(block, self.count) for block in self.blocks], format="csc")
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = self.count, rows.shape[0]
        model.col_cost_ = _widen(cost.matrix, self.count).toarray()[0]
        model.col_lower_, model.col_upper_ = np.concatenate(self.lower), np.concatenate(self.upper)
        model.row_lower_, model.row_upper_ = np.concatenate(self.row_lower), np.concatenate(self.row_upper)
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_, model.a_matrix_.index_, model.a_matrix_.value_ = rows.indptr, rows.indices, rows.data
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        if not relaxed and self.binary_count:
            model.integrality_ = [kinds[int(whole)] for whole in np.concatenate(self.integer)]
        return model


def _run(highs: highspy.Highs) -> None:
    highs.HandleUserInterrupt = True
    highs.startSolve()
    try:
        while not highs.wait(_LOOK)[0]:
            pass
    except KeyboardInterrupt:
        highs.cancelSolve()
        highs.wait()
        raise


_STATUS = {
    highspy.HighsModelStatus.kOptimal: Status.OPTIMAL,
    highspy.HighsModelStatus.kInfeasible: Status.INFEASIBLE,
    # Every column is bounded, so a program cannot be unbounded.
    highspy.HighsModelStatus.kUnboundedOrInfeasible: Status.INFEASIBLE,
    highspy.HighsModelStatus.kTimeLimit: Status.TIME,
}
