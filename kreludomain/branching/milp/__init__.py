"""Mixed-integer programs of a network, solved by a branch and bound whose every bound is certified.

::

    better = tighten(abstraction, node, deadline=Deadline.after(10))     # bounds of a layer's unstable neurons
    exact = MilpAbstraction.over(abstraction, threads=2)                 # objectives: .minimise, .prove
    exact.search(objective)[0].point                                     # the input to replay where a row is refuted
"""

from kreludomain.branching.milp.phases import LPResult, PhaseSession
from kreludomain.branching.milp.tighten import MilpAbstraction, advance_all, tighten
from kreludomain.branching.milp.tree import CLAIM, GAP, MINIMUM, SIGN, Cutoffs, Tree, TreeStatus

__all__ = [
    "CLAIM",
    "GAP",
    "MINIMUM",
    "SIGN",
    "Cutoffs",
    "LPResult",
    "MilpAbstraction",
    "PhaseSession",
    "Tree",
    "TreeStatus",
    "advance_all",
    "tighten",
]
