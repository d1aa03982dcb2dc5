"""Linear, conic and mixed-integer programs of networks, in matrix form, and the solvers that take them.

From a network to a certified bound: :class:`NetworkEncoder` writes its operators into a :class:`Model` (relaxed or
exact), which becomes a :class:`Program`; a :class:`Solver` returns multipliers; :func:`certified_minimum` makes a bound
of them.
"""

from kreludomain.programs.certify import certified_minimum, proves_infeasible
from kreludomain.programs.encode import NetworkEncoder, encode_operator
from kreludomain.programs.exact import ExactEncoder, ExactNetwork, UnstableRelus
from kreludomain.programs.expressions import Affine, stacked
from kreludomain.programs.formulations import FORMULATIONS
from kreludomain.programs.model import Model, Program, RowColumnBounds
from kreludomain.programs.relaxed import RelaxedEncoder, RelaxedNetwork, Triangles, relax_network
from kreludomain.programs.solvers import (
    SOLVERS,
    Abilities,
    LPSolution,
    MilpSolution,
    MilpStatus,
    Solver,
    SolverSession,
    WarmSession,
    WarmSolution,
    check_solver,
    make_solver,
)

__all__ = [
    "FORMULATIONS",
    "SOLVERS",
    "Abilities",
    "Affine",
    "ExactEncoder",
    "ExactNetwork",
    "LPSolution",
    "MilpSolution",
    "MilpStatus",
    "Model",
    "NetworkEncoder",
    "Program",
    "RelaxedEncoder",
    "RelaxedNetwork",
    "RowColumnBounds",
    "Solver",
    "SolverSession",
    "Triangles",
    "UnstableRelus",
    "WarmSession",
    "WarmSolution",
    "certified_minimum",
    "check_solver",
    "encode_operator",
    "make_solver",
    "proves_infeasible",
    "relax_network",
    "stacked",
]
