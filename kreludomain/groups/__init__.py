"""Joint relaxations of groups of neurons: groups, octahedra, pieces and vertices, hulls."""

from kreludomain.groups.by_area import ByArea, sparse_cover
from kreludomain.groups.by_correlation import ByCorrelation
from kreludomain.groups.grouping import Grouping, NoGroups, by_size, check_groups
from kreludomain.groups.hull import Hull, joint_hull, lifted
from kreludomain.groups.joint import JointRelaxation, relax_jointly
from kreludomain.groups.octahedron import Octahedra, directions, implied_by_box, octahedra
from kreludomain.groups.options import GROUPINGS, GroupingOptions
from kreludomain.groups.vertices import piece_vertices

__all__ = [
    "GROUPINGS",
    "ByArea",
    "ByCorrelation",
    "Grouping",
    "GroupingOptions",
    "Hull",
    "JointRelaxation",
    "NoGroups",
    "Octahedra",
    "by_size",
    "check_groups",
    "directions",
    "implied_by_box",
    "joint_hull",
    "lifted",
    "octahedra",
    "piece_vertices",
    "relax_jointly",
    "sparse_cover",
]
