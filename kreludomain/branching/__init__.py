"""Branch and bound: over the signs of neurons, over inputs, and with all bounds refined in every part."""

from kreludomain.branching.inputs import InputSplitting, SplitOutcome, prove_by_input_splitting
from kreludomain.branching.neurons import Branching, Progress, Refute, Searched, branch_and_bound
from kreludomain.branching.refined import Branched, RefinedBranching

__all__ = [
    "Branched",
    "Branching",
    "InputSplitting",
    "Progress",
    "RefinedBranching",
    "Refute",
    "Searched",
    "SplitOutcome",
    "branch_and_bound",
    "prove_by_input_splitting",
]
