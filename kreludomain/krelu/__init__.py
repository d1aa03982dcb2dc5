"""Joint relaxations of groups of neurons: groups, octahedra, pieces and vertices, hulls."""

from kreludomain.krelu.groups import GROUPINGS, ByArea, ByCoupling, Grouping, by_size, make_grouping, sparse_cover
from kreludomain.krelu.hull import Hull, joint_hull, lifted
from kreludomain.krelu.octahedron import Octahedra, directions, implied_by_box, octahedra
from kreludomain.krelu.relaxation import JointRelaxation, relax_jointly
from kreludomain.krelu.vertices import piece_vertices

__all__ = [
    "GROUPINGS",
    "ByArea",
    "ByCoupling",
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
