"""The question: regions of inputs, linear claims about the output, objectives at any node."""

from kreludomain.spec.claim import Claim, claim, robustness
from kreludomain.spec.objective import Objective, chunk_rows
from kreludomain.spec.region import Box, L1Ball, L2Ball, Region, ball, box

__all__ = [
    "Box",
    "Claim",
    "L1Ball",
    "L2Ball",
    "Objective",
    "Region",
    "ball",
    "box",
    "chunk_rows",
    "claim",
    "robustness",
]
