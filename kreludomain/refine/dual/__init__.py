"""The vertex dual: bounds as tight as the linear program over joint hulls, without hulls and without a program.

``relaxation`` says what replaces an activation, ``step`` is one evaluation and its gradient, ``problem`` puts them
together over a network, ``ascent`` climbs, ``bound`` does so for many objectives, ``krelu`` is the method: which
objectives, in which order. ``splitting`` is the same over the parts of a region that signs of neurons make.
"""

from kreludomain.refine.dual.ascent import Ascent, climb
from kreludomain.refine.dual.bound import Machine, bound
from kreludomain.refine.dual.krelu import PRESETS, Assumed, DualAbstraction, KRelu, Reached, Superposed
from kreludomain.refine.dual.problem import DualProblem, Multipliers, Start
from kreludomain.refine.dual.relaxation import Block, GroupedRelu, grouped_relu
from kreludomain.refine.dual.splitting import SplitDual
from kreludomain.refine.dual.step import GroupStep

__all__ = [
    "PRESETS",
    "Ascent",
    "Assumed",
    "Block",
    "DualAbstraction",
    "DualProblem",
    "GroupStep",
    "GroupedRelu",
    "KRelu",
    "Machine",
    "Multipliers",
    "Reached",
    "SplitDual",
    "Start",
    "Superposed",
    "bound",
    "climb",
    "grouped_relu",
]
