"""Linear programs of a relaxed network, in matrix form, and the solvers that take them."""

from kreludomain.programs.program import FORMULATIONS, Program, build_program
from kreludomain.programs.solvers import Session, Solution, Solver, check_solver, make_solver

__all__ = [
    "FORMULATIONS",
    "Program",
    "Session",
    "Solution",
    "Solver",
    "build_program",
    "check_solver",
    "make_solver",
]
