"""The vertex dual: bounds as tight as the linear program over joint hulls, without hulls and without a program.

From below to above: ``grouped`` (the relaxation of an activation), ``step`` (one evaluation and its gradient),
``multipliers``, ``problem`` (the dual of a network), ``ascent`` (its maximisation), ``batches`` (many objectives),
``splitting`` (the subproblems that decided signs make); ``abstraction`` (the dual as an abstraction), ``combined``
(octahedra by sums of multipliers), ``layers`` (one layer after the other), ``output_constraints`` (over the inputs
where a claim fails), ``stages`` (from quick to thorough), ``method`` (the options).
"""

from kreludomain.bounding.dual.abstraction import DualAbstraction
from kreludomain.bounding.dual.ascent import DualAscent, maximise_dual
from kreludomain.bounding.dual.batches import ComputeOptions, bound
from kreludomain.bounding.dual.combined import CombinedMultipliers
from kreludomain.bounding.dual.grouped import Block, GroupedActivation, grouped_relu
from kreludomain.bounding.dual.layers import LayerOptions
from kreludomain.bounding.dual.method import PRESETS, KRelu
from kreludomain.bounding.dual.multipliers import Multipliers
from kreludomain.bounding.dual.output_constraints import ConstrainedBounds
from kreludomain.bounding.dual.problem import DualProblem, Reference
from kreludomain.bounding.dual.splitting import SplitDual
from kreludomain.bounding.dual.stages import Stage, StageResult
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
    "GroupedActivation",
    "KRelu",
    "LayerOptions",
    "Multipliers",
    "Reference",
    "SplitDual",
    "Stage",
    "StageResult",
    "bound",
    "grouped_relu",
    "maximise_dual",
]
