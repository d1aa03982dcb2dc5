"""The joint relaxation of a layer: groups, their octahedra, the vertices of their pieces."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction
from kreludomain.groups.grouping import Grouping, check_groups
from kreludomain.groups.octahedron import Octahedra, octahedra
from kreludomain.groups.vertices import piece_vertices


@dataclass(frozen=True, eq=False)
class JointRelaxation:
    """``(x_g, ReLU(x_g))`` lies in ``conv{(v, ReLU(v))}`` for each of ``G`` groups of ``k`` neurons of one layer.

    ``vertices`` is ``(G, V, k)``; ``octahedra.groups`` ``(G, k)`` are the neurons.
    """

    octahedra: Octahedra
    vertices: Tensor

    @property
    def groups(self) -> Tensor:
        """The neurons of each group, ``(G, k)``, as flat positions in their layer."""
        return self.octahedra.groups

    def pick(self, chosen: Tensor) -> JointRelaxation:
        """Only the groups where ``chosen`` ``(G,)`` is true."""
        o = self.octahedra
        return JointRelaxation(Octahedra(o.groups[chosen], o.lower[chosen], o.upper[chosen]), self.vertices[chosen])


def relax_jointly(
    abstraction: Abstraction, node: str, grouping: Grouping, memory_mb: int = 512, deadline: Deadline = Deadline()
) -> tuple[JointRelaxation, ...]:
    """The joint relaxations that ``grouping`` chooses at a pre-activation node, one a group size.

    There are none where no ReLU takes the node, and no group has a neuron whose bounds are not finite.
    """
    if not abstraction.network.feeds_relu(node):
        return ()
    groups = check_groups(grouping.groups(abstraction, node), abstraction.network.size(node), node)
    finite = abstraction.bounds[node].width.isfinite().all(0).flatten().cpu()
    groups = [same[finite[same].all(1)] for same in groups]
    found = (octahedra(abstraction, node, same, memory_mb, deadline) for same in groups if len(same))
    return tuple(JointRelaxation(o, piece_vertices(o)) for o in found)
