"""Better bounds from a relaxation: linear programs, the vertex dual, and refinements of a user's own."""

from kreludomain.refine.custom import Refined, Refinement
from kreludomain.refine.dual import KRelu
from kreludomain.refine.lp import KReluLP, LPAbstraction, TriangleLP
from kreludomain.refine.program import FORMULATIONS, Program, build_program
from kreludomain.refine.solvers import Session, Solution, Solver, check_solver, make_solver

__all__ = [
    "FORMULATIONS",
    "KRelu",
    "KReluLP",
    "LPAbstraction",
    "Program",
    "Refined",
    "Refinement",
    "Session",
    "Solution",
    "Solver",
    "TriangleLP",
    "build_program",
    "check_solver",
    "make_solver",
]
