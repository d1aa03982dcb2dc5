"""HiGHS through its own Python interface: the one place that speaks to it.

**Linear programs with new costs** (:class:`HighsSession`). The first objective is solved by the interior point method
with crossover, the others by the primal simplex method: other costs leave the last basis primal feasible. On k-ReLU
programs this took half the time of HiGHS's own choice. On the largest ones the simplex method does not end in time;
where it takes longer than the interior point method did, that one solves all further objectives, without crossover,
since multipliers are all that is needed.

**Linear programs with new bounds** (:class:`HighsWarmSession`) by the simplex method from a given basis.

**Mixed-integer programs** (:meth:`HighsSolver.minimise_integer`), which Ctrl-C and a time limit stop.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, replace
from typing import Any

import highspy
import numpy as np

from kreludomain.programs.certify import certified_minimum
from kreludomain.programs.model import Program
from kreludomain.programs.scaling import scaled
from kreludomain.programs.solvers.base import (
    Abilities,
    LPSolution,
    MilpSolution,
    MilpStatus,
    Solver,
    SolverSession,
    WarmSession,
    WarmSolution,
)

#: HiGHS's numbers for two variants of the simplex method.
_DUAL, _PRIMAL = 1, 4

#: Relative to a cutoff: how far past it HiGHS goes before it stops, so that its multipliers prove a bound past it too.
_BEYOND = 1e-7

#: How far HiGHS may leave a row or an integer of a mixed-integer program unsatisfied. What it prunes it prunes beyond
#: that, so the programs it solves have a little more room than ours and its bounds err to the safe side.
_FEASIBILITY = 1e-9

#: Seconds between two looks for Ctrl-C while HiGHS works on a mixed-integer program.
_INTERRUPT_INTERVAL = 0.1

_MILP_STATUS = {
    highspy.HighsModelStatus.kOptimal: MilpStatus.OPTIMAL,
    highspy.HighsModelStatus.kInfeasible: MilpStatus.INFEASIBLE,
    # Every variable is bounded, so a program cannot be unbounded.
    highspy.HighsModelStatus.kUnboundedOrInfeasible: MilpStatus.INFEASIBLE,
    highspy.HighsModelStatus.kTimeLimit: MilpStatus.TIME,
}


@dataclass(frozen=True)
class HighsSolver(Solver):
    """HiGHS without cvxpy in between: linear regions, integers, warm starts, time limits."""

    @property
    def name(self) -> str:
        return "highspy"

    @property
    def abilities(self) -> Abilities:
        return Abilities(integers=True, warm_start=True)

    def session(self, program: Program) -> SolverSession:
        return HighsSession(program)

    def warm_session(self, program: Program) -> WarmSession:
        self.check(program)
        return HighsWarmSession(program)

    def minimise_integer(
        self, program: Program, cost: np.ndarray, seconds: float, gap: float, start: np.ndarray | None = None
    ) -> MilpSolution:
        """As :meth:`Solver.minimise_integer`, in scaled variables and rows. Without integers the bound is certified;
        with them it is HiGHS's."""
        self.check(program)
        there = scaled(replace(program.with_region_rows(), region=None, inputs=0))
        if seconds <= 0:
            return MilpSolution(MilpStatus.TIME, -math.inf, None, 0, "no time was left")
        tolerances = ("mip_feasibility_tolerance", "primal_feasibility_tolerance", "dual_feasibility_tolerance")
        highs = _highs(
            threads=1,
            time_limit=min(seconds, 1e20),
            mip_rel_gap=gap,
            mip_abs_gap=1e-9,
            **dict.fromkeys(tolerances, _FEASIBILITY),
        )
        extra = len(there.units) - len(cost)
        scaled_cost = there.cost(np.pad(cost, (0, extra)))
        highs.passModel(_model(there.program, scaled_cost))
        if start is not None:
            known = highspy.HighsSolution()
            known.col_value = there.inward(np.pad(start, (0, extra))).tolist()
            highs.setSolution(known)
        _run_interruptibly(highs)
        found = _milp_solution(highs, there.program, scaled_cost)
        return found if found.point is None else replace(found, point=there.outward(found.point)[: len(cost)])


def version() -> str:
    """The version of HiGHS."""
    return str(highspy.Highs().version())


class HighsSession(SolverSession):
    """A linear program whose costs change."""

    def __init__(self, program: Program) -> None:
        model = _model(program)
        self._count = program.rows.shape[0]
        self._columns = np.arange(model.num_col_, dtype=np.int32)
        self._padding = np.zeros(model.num_col_ - len(program.lower))
        self._highs = _highs(threads=1, parallel="off", simplex_strategy=_PRIMAL)
        self._highs.passModel(model)
        self._has_basis = False
        #: Seconds that the simplex method may take from the last basis: those that the interior point method took.
        self._worth_trying = math.inf

    def minimise(self, cost: np.ndarray, seconds: float) -> LPSolution:
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
        _limit(self._highs, seconds)
        self._highs.run()
        result: highspy.HighsModelStatus = self._highs.getModelStatus()
        return result

    def _solution(self, status: highspy.HighsModelStatus) -> LPSolution:
        solution = self._highs.getSolution()
        dual = np.array(solution.row_dual)[: self._count] if solution.dual_valid else None
        if status == highspy.HighsModelStatus.kOptimal:
            return LPSolution(dual)
        return LPSolution(dual, f"highspy: {self._highs.modelStatusToString(status).lower()}")


class HighsWarmSession(WarmSession):
    """A linear program whose costs and bounds change, by the simplex method."""

    def __init__(self, program: Program) -> None:
        self._highs = _highs(threads=1, parallel="off", presolve="off", solver="simplex")
        self._highs.passModel(_model(program))
        self._rows, self._columns = program.rows.shape[0], np.arange(len(program.lower), dtype=np.int32)
        self._cost: np.ndarray | None = None
        self._last: Any = None

    def change_columns(self, columns: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        self._highs.changeColsBounds(len(columns), columns.astype(np.int32), lower, upper)

    def change_rows(self, rows: np.ndarray, lower: np.ndarray, upper: np.ndarray) -> None:
        self._highs.changeRowsBounds(len(rows), rows.astype(np.int32), lower, upper)

    def minimise(
        self, cost: np.ndarray, basis: Any, cutoff: float, seconds: float, primal: bool = False
    ) -> WarmSolution:
        highs = self._highs
        if cost is not self._cost:
            highs.changeColsCost(len(cost), self._columns, cost)
            self._cost = cost
        if basis is not None and basis is not self._last:
            highs.setBasis(basis)
        highs.setOptionValue("simplex_strategy", _PRIMAL if primal else _DUAL)
        past = cutoff + _BEYOND * (1 + abs(cutoff)) if math.isfinite(cutoff) else math.inf
        highs.setOptionValue("objective_bound", min(past, 1e30))
        _limit(highs, seconds)
        highs.run()
        self._last = highs.getBasis()
        solution = highs.getSolution()
        dual = np.array(solution.row_dual)[: self._rows] if solution.dual_valid else None
        point = np.array(solution.col_value)[: len(cost)] if solution.value_valid else None
        return WarmSolution(dual, point, self._ray(), self._last)

    def _ray(self) -> np.ndarray | None:
        if self._highs.getModelStatus() != highspy.HighsModelStatus.kInfeasible:
            return None
        _, there, ray = self._highs.getDualRay()
        return np.array(ray)[: self._rows] if there else None


def _highs(**options: Any) -> Any:  # the package's stubs lack some of its methods
    """HiGHS, silent, with options."""
    highs: Any = highspy.Highs()
    for name, value in {"output_flag": False, **options}.items():
        highs.setOptionValue(name, value)
    return highs


def _limit(highs: Any, seconds: float) -> None:
    """Sets the time limit of the next run; HiGHS counts it over all runs of a model."""
    highs.setOptionValue("time_limit", min(highs.getRunTime() + max(seconds, 0.0), 1e20))


def _model(program: Program, cost: np.ndarray | None = None) -> highspy.HighsLp:
    """The program with its region's rows in HiGHS's form; its own rows and variables come first."""
    whole = program.with_region_rows()
    columns, matrix = len(whole.lower), whole.rows.tocsc()
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = columns, len(whole.row_lower)
    model.col_cost_ = np.zeros(columns) if cost is None else np.pad(cost, (0, columns - len(cost)))
    model.col_lower_, model.col_upper_ = whole.lower, whole.upper
    model.row_lower_, model.row_upper_ = whole.row_lower, whole.row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_ = matrix.indptr, matrix.indices
    model.a_matrix_.value_ = matrix.data
    if whole.integer.any():
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        model.integrality_ = [kinds[int(each)] for each in whole.integer]
    return model


def _run_interruptibly(highs: Any) -> None:
    """Runs HiGHS in a thread of its own, looking for Ctrl-C; on Ctrl-C it is stopped first."""
    highs.HandleUserInterrupt = True
    highs.startSolve()
    try:
        while not highs.wait(_INTERRUPT_INTERVAL)[0]:
            pass
    except KeyboardInterrupt:
        highs.cancelSolve()
        highs.wait()
        raise


def _milp_solution(highs: Any, program: Program, cost: np.ndarray) -> MilpSolution:
    found, info, solution = highs.getModelStatus(), highs.getInfo(), highs.getSolution()
    status = _MILP_STATUS.get(found, MilpStatus.FAILED)
    known = status in (MilpStatus.OPTIMAL, MilpStatus.TIME)
    feasible = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    point = np.array(solution.col_value)[: len(cost)] if known and feasible else None
    bound = math.inf if status == MilpStatus.INFEASIBLE else -math.inf
    if known and program.integer.any():
        bound = info.mip_dual_bound
    elif known and solution.dual_valid:
        bound = certified_minimum(program, cost, np.array(solution.row_dual)[: program.rows.shape[0]])
    message = "HiGHS: " + highs.modelStatusToString(found).lower()
    return MilpSolution(status, bound, point, max(0, int(info.mip_node_count)), message)
