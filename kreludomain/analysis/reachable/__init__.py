"""Reachable sets of a network in a plane, and the relaxations of a pair of neurons: the geometry behind the pictures of
``kreludomain show``."""

from kreludomain.analysis.reachable.pair import RELAXATIONS, NeuronPair, faces, relaxation_vertices, volume
from kreludomain.analysis.reachable.plane import Plane, SupportBounds, linear_expression
from kreludomain.analysis.reachable.polygon import (
    CircumscribedPolygon,
    SupportFunction,
    area,
    circumscribe,
    convex_hull,
    nesting_violations,
    split,
    violations,
)
from kreludomain.analysis.reachable.reachable_set import ReachableSet, linear_pieces, reachable_set, sampled_inputs

__all__ = [
    "RELAXATIONS",
    "CircumscribedPolygon",
    "NeuronPair",
    "Plane",
    "ReachableSet",
    "SupportBounds",
    "SupportFunction",
    "area",
    "circumscribe",
    "convex_hull",
    "faces",
    "linear_expression",
    "linear_pieces",
    "nesting_violations",
    "reachable_set",
    "relaxation_vertices",
    "sampled_inputs",
    "split",
    "violations",
    "volume",
]
