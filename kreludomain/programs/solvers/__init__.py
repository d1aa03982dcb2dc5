"""Linear programming solvers behind one interface, by name.

cvxpy takes longer to import than a small problem to solve, so it is imported when it is asked for.
"""

from __future__ import annotations

from kreludomain.errors import InputError
from kreludomain.programs.solvers.base import Session, Solution, Solver
from kreludomain.programs.solvers.highs import HighsSolver
from kreludomain.property import Box, L1Ball, Region

__all__ = ["HighsSolver", "Session", "Solution", "Solver", "check_solver", "make_solver"]

#: Solvers that are reached without cvxpy, by name.
DIRECT: dict[str, Solver] = {"highspy": HighsSolver()}


def check_solver(name: str) -> None:
    """Raises :class:`InputError` unless ``name`` is ``auto``, a direct solver's, or one that cvxpy has installed."""
    direct = ["auto", *DIRECT]
    if name.lower() in direct:
        return
    import cvxpy

    available = [*direct, *(s.lower() for s in cvxpy.installed_solvers())]
    if name.lower() not in available:
        raise InputError(f"solver: '{name}' is not one of {', '.join(available)}")


def make_solver(name: str, region: Region) -> Solver:
    """The solver of a name: ``auto`` is highspy for linear regions and Clarabel for l_2 balls; else cvxpy's, any
    case."""
    check_solver(name)
    name = name.lower()
    if name == "auto":
        name = "highspy" if isinstance(region, Box | L1Ball) else "clarabel"
    if name in DIRECT:
        return DIRECT[name]
    from kreludomain.programs.solvers.cvxpy import CvxpySolver

    return CvxpySolver(name.upper())
