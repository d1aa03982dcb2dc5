"""Joint relaxations of groups of neurons: groups, octahedra, pieces and vertices, hulls."""

from kreludomain.groups.grouping import GROUPINGS, ByArea, ByCorrelation, Grouping, by_size, make_grouping, sparse_cover
from kreludomain.groups.hull import Hull, joint_hull, lifted
from kreludomain.groups.joint import JointRelaxation, relax_jointly
from kreludomain.groups.octahedron import Octahedra, directions, implied_by_box, octahedra
from kreludomain.groups.vertices import piece_vertices

__all__ = [
    "GROUPINGS",
    "ByArea",
    "ByCorrelation",
    "Grouping",
    "Hull",
    "JointRelaxation",
    "Octahedra",
    "by_size",
    "directions",
    "implied_by_box",
    "joint_hull",
    "lifted",
    "make_grouping",
    "octahedra",
    "piece_vertices",
    "relax_jointly",
    "sparse_cover",
]
