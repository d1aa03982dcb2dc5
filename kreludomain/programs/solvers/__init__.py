"""Solvers of programs behind one interface, by name.

cvxpy takes longer to import than a small problem to solve, so it is imported when it is asked for.
"""

from __future__ import annotations

from kreludomain.errors import InputError, did_you_mean
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
from kreludomain.programs.solvers.highs import HighsSolver
from kreludomain.property import Region

__all__ = [
    "HIGHS",
    "SOLVERS",
    "Abilities",
    "HighsSolver",
    "LPSolution",
    "MilpSolution",
    "MilpStatus",
    "Solver",
    "SolverSession",
    "WarmSession",
    "WarmSolution",
    "check_solver",
    "make_solver",
]

#: The solver of mixed-integer programs, of searches that change bounds, and by default of linear programs.
HIGHS = HighsSolver()

#: Solvers that are reached without cvxpy, by name.
SOLVERS: dict[str, Solver] = {HIGHS.name: HIGHS}

#: The solver that ``auto`` is for a region that HiGHS does not take.
_CONIC = "clarabel"


def check_solver(solver: str | Solver) -> None:
    """Raises :class:`InputError` unless it is a solver, ``auto``, or the name of one in :data:`SOLVERS` or cvxpy."""
    if isinstance(solver, Solver):
        return
    if not isinstance(solver, str):
        raise InputError(f"solver: {solver!r} is neither a name nor a kreludomain.Solver")
    direct = ["auto", *SOLVERS]
    if solver.lower() in direct:
        return
    import cvxpy

    available = [*direct, *(s.lower() for s in cvxpy.installed_solvers())]
    if solver.lower() not in available:
        raise InputError(f"solver: '{solver}' is not one of {', '.join(available)}{did_you_mean(solver, available)}")


def make_solver(solver: str | Solver, region: Region) -> Solver:
    """The solver of a name; ``auto`` is HiGHS for regions whose rows are linear, and Clarabel for cones."""
    check_solver(solver)
    if isinstance(solver, Solver):
        return solver
    name = solver.lower()
    if name == "auto":
        name = HIGHS.name if HIGHS.takes(region.program_rows()) else _CONIC
    if name in SOLVERS:
        return SOLVERS[name]
    from kreludomain.programs.solvers.cvxpy import CvxpySolver

    return CvxpySolver(name.upper())
