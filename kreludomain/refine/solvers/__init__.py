"""Linear programming solvers behind one interface, by name."""

from __future__ import annotations

import cvxpy

from kreludomain.errors import InputError
from kreludomain.refine.solvers.base import Session, Solution, Solver
from kreludomain.refine.solvers.through_cvxpy import CvxpySolver
from kreludomain.refine.solvers.through_highspy import HighsSolver
from kreludomain.spec import Box, L1Ball, Region

__all__ = ["CvxpySolver", "HighsSolver", "Session", "Solution", "Solver", "check_solver", "make_solver"]

#: Solvers that are reached without cvxpy, by name.
DIRECT: dict[str, Solver] = {"highspy": HighsSolver()}


def check_solver(name: str) -> None:
    """Raises :class:`InputError` unless ``name`` is ``auto``, a direct solver's, or one that cvxpy has installed."""
    available = ["auto", *DIRECT, *(s.lower() for s in cvxpy.installed_solvers())]
    if name.lower() not in available:
        raise InputError(f"solver: '{name}' is not one of {', '.join(available)}")


def make_solver(name: str, region: Region) -> Solver:
    """The solver of a name: ``auto`` is highspy for linear regions and Clarabel for l_2 balls; else cvxpy's, any
    case."""
    check_solver(name)
    name = name.lower()
    if name == "auto":
        name = "highspy" if isinstance(region, Box | L1Ball) else "clarabel"
    return DIRECT[name] if name in DIRECT else CvxpySolver(name.upper())
