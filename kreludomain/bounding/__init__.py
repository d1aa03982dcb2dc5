"""Bounds tighter than an abstract domain's: linear programs, the vertex dual, mixed-integer programs, a user's own."""

from kreludomain.bounding.custom import Refined, Refinement
from kreludomain.bounding.dual import KRelu
from kreludomain.bounding.lp import KReluLP, LPAbstraction, TriangleLP

__all__ = ["KRelu", "KReluLP", "LPAbstraction", "Refined", "Refinement", "TriangleLP"]
