"""Branch and bound: over the signs of neurons, over inputs, and with all bounds refined in every part.

:class:`OpenSet` holds the open subproblems with the bounds that they certify; a :class:`BranchingRule` chooses the
neuron that is split.
"""

from kreludomain.branching.estimate import BranchingRate, ExpectedToEnd, Progress
from kreludomain.branching.inputs import InputSplitting, InputSplittingResult, prove_by_input_splitting
from kreludomain.branching.neurons import Branching, BranchingResult, Refute, branch_and_bound
from kreludomain.branching.open_set import OpenSet, Subproblem
from kreludomain.branching.refined import RefinedBranching, RefinedBranchingResult
from kreludomain.branching.rules import RULES, BranchingRule, SplitCandidates, make_rule

__all__ = [
    "RULES",
    "Branching",
    "BranchingRate",
    "BranchingResult",
    "BranchingRule",
    "ExpectedToEnd",
    "InputSplitting",
    "InputSplittingResult",
    "OpenSet",
    "Progress",
    "RefinedBranching",
    "RefinedBranchingResult",
    "Refute",
    "SplitCandidates",
    "Subproblem",
    "branch_and_bound",
    "make_rule",
    "prove_by_input_splitting",
]
