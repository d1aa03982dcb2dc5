"""The vertex dual: bounds as tight as the linear program over joint hulls, without hulls and without a program.

``relaxation`` says what replaces an activation, ``step`` is one evaluation and its gradient, ``problem`` puts them
together over a network, ``ascent`` climbs, ``bound`` does so for many objectives, ``krelu`` is the method: which
objectives, in which order. ``splitting`` is the same over the parts of a region that signs of neurons make.
"""

from kreludomain.bounding.dual.ascent import DualAscent, maximise_dual
from kreludomain.bounding.dual.batches import ComputeOptions, bound
from kreludomain.bounding.dual.grouped import Block, GroupedRelu, grouped_relu
from kreludomain.bounding.dual.method import (
    PRESETS,
    CombinedMultipliers,
    ConstrainedBounds,
    DualAbstraction,
    KRelu,
    StageResult,
)
from kreludomain.bounding.dual.problem import DualProblem, Multipliers, Start
from kreludomain.bounding.dual.splitting import SplitDual
from kreludomain.bounding.dual.step import GroupRelaxation

__all__ = [
    "PRESETS",
    "Block",
    "CombinedMultipliers",
    "ComputeOptions",
    "ConstrainedBounds",
    "DualAbstraction",
    "DualAscent",
    "DualProblem",
    "GroupRelaxation",
    "GroupedRelu",
    "KRelu",
    "Multipliers",
    "SplitDual",
    "StageResult",
    "Start",
    "bound",
    "grouped_relu",
    "maximise_dual",
]
