"""The question: regions of inputs, claims about the output, VNN-LIB files, objectives at any node."""

from kreludomain.spec.claim import Claim, claim, robustness
from kreludomain.spec.objective import Objective, chunk_rows
from kreludomain.spec.region import Box, L1Ball, L2Ball, Region, ball, box
from kreludomain.spec.specification import Case, Specification
from kreludomain.spec.vnnlib import load_vnnlib

__all__ = [
    "Box",
    "Case",
    "Claim",
    "L1Ball",
    "L2Ball",
    "Objective",
    "Region",
    "Specification",
    "ball",
    "box",
    "chunk_rows",
    "claim",
    "load_vnnlib",
    "robustness",
]
