"""The dual relaxation of one activation: its neurons' groups and their vertices.

Let ``A_j`` be the coefficients on a layer's post-activations. Each is allocated among the groups ``g`` that hold neuron
``j``, in parts ``a_{g,j}`` of any sign whose sum is ``A_j``. For each group and any slopes ``s_g``,

    a_g . ReLU(x)  >=  s_g . x + min over vertices v of ( a_g . ReLU(v) - s_g . v )       for all x in the octahedron,

because the difference is linear on each piece. So coefficients ``s`` on the pre-activations and a constant stand for
the layer. Parts and slopes are the dual's multipliers: all are sound, and the best ones are worth as much as the linear
program over the joint hulls. An unstable neuron that no joint relaxation holds is a group of its own with the vertices
``l``, 0 and ``u``. So is every neuron of another activation: its vertices are those of a polygon around the curve, and
its best slopes are found as all others are.

A *slot* is one neuron of one group. Multipliers are kept slot by slot, ``(S, m)`` for ``m`` objectives, and in units of
their neuron's scale, half the width of its bounds, so that a step of one size means the same everywhere.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.activations import ActivationFunction, Relu
from kreludomain.domain import Bounds
from kreludomain.domain.twins import TwinLines
from kreludomain.groups import JointRelaxation, lifted

#: Products of multipliers and vertices that are worked on at once, in MiB: as much as a core's cache holds.
CACHE_MB = 2
#: The least scale of a neuron: float32 cannot divide by smaller ones.
_LEAST_SCALE = 1e-30
#: The least scale of a curve's neuron, relative to its largest input and output: vertices closer to each other are one
#: in float32.
_LEAST_CURVE_SCALE = 1e-2
#: A group has few vertices if it has at most this part of the largest number; so many of them get a block of their own.
_FEW_VERTICES, _LEAST_GROUPS = 0.6, 32
#: A vertex this near to a coordinate plane, relative to its group's largest bound, may be on either side of it. That is
#: far more than vertices are off by.
_SIDE_TOL = 1e-8


@dataclass(frozen=True, eq=False)
class Block:
    """``G`` groups of one size: ``groups`` ``(G, k)`` are neurons, ``table`` ``(G, 2 k, V)`` their lifted vertices.

    A column of the table is ``(ReLU(v), -v)`` (``(y, -x)`` for a curve's polygon), in units of the neurons' scales.
    ``sides`` ``(G, 2 k, V)``: 1 where a vertex is on a neuron's negative side, and on its positive one; 0 elsewhere,
    where rounding cannot tell, and for curves, which no split cuts.
    """

    groups: Tensor
    table: Tensor
    sides: Tensor

    @property
    def k(self) -> int:
        return self.groups.shape[1]

    @property
    def slots(self) -> int:
        """How many slots its groups have, ``G k``."""
        return self.groups.numel()

    @cached_property
    def magnitude(self) -> Tensor:
        """The largest magnitude in each row of the table, ``(G, 2 k, 1)``: rounding is in proportion to it."""
        return self.table.abs().amax(2, keepdim=True)

    @cached_property
    def table_and_sides(self) -> Tensor:
        """The table and the sides below it, ``(G, 4 k, V)``."""
        return torch.cat([self.table, self.sides], dim=1)

    def batches(self, objectives: int) -> Iterator[slice]:
        """Slices of the groups whose products with so many objectives fit the cache."""
        count, vertices = self.groups.shape[0], self.table.shape[2]
        most = max(1, CACHE_MB * 2**20 // max(1, objectives * vertices * self.table.element_size()))
        for start in range(0, count, most):
            yield slice(start, start + most)


@dataclass(frozen=True, eq=False)
class GroupedActivation:
    """The dual relaxation of one activation with ``n`` neurons; all tensors are ``(n,)``.

    ``scale``: the unit of a neuron's multipliers and vertices. ``equal_share``: one over the number of groups that hold
    a neuron (0: none does). The slopes and intercepts are DeepPoly's lines: multipliers start there, and they stand for
    neurons in no group. ``twins``: the lines below and above the differences of neurons that are a group of two and in
    no other, from which multipliers of what both share start; ``None`` where there are no such groups.
    """

    blocks: tuple[Block, ...]
    scale: Tensor
    equal_share: Tensor
    lower_slope: Tensor
    upper_slope: Tensor
    upper_intercept: Tensor
    lower_intercept: Tensor
    twins: TwinLines | None = None

    def reference_slope(self, coefficients: Tensor) -> Tensor:
        """The slopes ``(n, m)`` for a unit of coefficient that multipliers start from, for coefficients ``(n, m)``."""
        slope = torch.where(coefficients >= 0, self.lower_slope[:, None], self.upper_slope[:, None])
        if self.twins is None:
            return slope
        shared = self.twins.shared(coefficients.T[None])
        own, of_pairs = self.twins.placed(shared, self.size)[0].T, self.twins.slope(shared)
        part = torch.where(coefficients != 0, own / coefficients, 0.0)
        twin_slope = self.twins.placed(of_pairs, self.size)[0].T
        return slope.lerp(twin_slope.abs(), part)

    def at_stake(self, coefficients: Tensor) -> Tensor:
        """How much of an objective's value each neuron's relaxation may cost, about, for coefficients ``(n, m)``: times
        half the width of its bounds, or of twins' difference where they share a coefficient; ``(n, m)``."""
        size = coefficients.abs() * self.scale[:, None]
        if self.twins is None:
            return size
        shared = self.twins.shared(coefficients.T[None]).abs()
        small = self.twins.placed(shared * self.twins.half_width[:, None], self.size)[0].T.abs()
        return size - self.twins.placed(shared, self.size)[0].T.abs() * self.scale[:, None] + small

    @cached_property
    def twin_slots(self) -> Tensor:
        """The slots of twins, pairs ``(P, 2)``."""
        slot = torch.full_like(self.scale, -1, dtype=torch.long)
        slot[self.neuron] = torch.arange(self.slots, device=slot.device)
        pairs = slot.new_zeros(0, 2) if self.twins is None else slot[self.twins.pairs[self.twins.used[0] > 0]]
        return pairs[(pairs >= 0).all(1)]

    @property
    def size(self) -> int:
        """How many neurons it has, ``n``."""
        return len(self.scale)

    @cached_property
    def neuron(self) -> Tensor:
        """The neuron of each slot, ``(S,)``."""
        empty = torch.zeros(0, dtype=torch.long, device=self.scale.device)
        return torch.cat([empty, *(block.groups.flatten() for block in self.blocks)])

    @property
    def slots(self) -> int:
        """How many slots it has, ``S``."""
        return len(self.neuron)

    @cached_property
    def splittable(self) -> Tensor:
        """The neurons of which some group has vertices on both sides, ``(n,)``."""
        both = torch.zeros_like(self.scale, dtype=torch.bool)
        for block in self.blocks:
            negative, positive = block.sides.any(2).chunk(2, dim=1)
            both[block.groups[negative & positive]] = True
        return both

    @cached_property
    def slot_scale(self) -> Tensor:
        """The scale of each slot's neuron, ``(S, 1)``."""
        return self.scale[self.neuron][:, None]

    @cached_property
    def slot_equal_share(self) -> Tensor:
        """The equal share of each slot's neuron, ``(S, 1)``."""
        return self.equal_share[self.neuron][:, None]

    @cached_property
    def ungrouped_slope(self) -> Tensor:
        """The lower slope of neurons in no group, ``(n, 1)``; 0 for others."""
        return ((self.equal_share == 0) * self.lower_slope)[:, None]

    @cached_property
    def has_ungrouped(self) -> bool:
        """Whether there are neurons in no group whose lines above and below are not the same."""
        return bool(((self.equal_share == 0) & ((self.upper_intercept != 0) | (self.lower_intercept != 0))).any())

    def ungrouped_lines(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and intercept ``(n, m)`` of the lines that coefficients ``(n, m)`` choose at neurons in no group; 0 for
        others."""
        upper = (coefficients < 0) & (self.equal_share == 0)[:, None]
        lower_intercept = ((self.equal_share == 0) * self.lower_intercept)[:, None]
        intercept = torch.where(upper, self.upper_intercept[:, None], lower_intercept)
        return torch.where(upper, self.upper_slope[:, None], self.ungrouped_slope), intercept

    def gathered(self, values: Tensor) -> Tensor:
        """Values of neurons ``(n, m)`` at their slots, ``(S, m)``."""
        return values.index_select(0, self.neuron)

    def summed(self, slots: Tensor) -> Tensor:
        """Values of slots ``(S, m)`` summed over each neuron's, ``(n, m)``."""
        return slots.new_zeros(len(self.scale), slots.shape[1]).index_add_(0, self.neuron, slots)

    def to(self, dtype: torch.dtype, device: torch.device) -> GroupedActivation:
        """The same relaxation in another dtype, on another device."""
        blocks = tuple(
            Block(b.groups.to(device), b.table.to(device, dtype), b.sides.to(device, dtype)) for b in self.blocks
        )
        moved = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name not in ("blocks", "twins")}
        twins = None if self.twins is None else self.twins.to(device, dtype)
        return GroupedActivation(blocks, **{name: v.to(device, dtype) for name, v in moved.items()}, twins=twins)

    def restricted(self, neurons: Tensor) -> tuple[GroupedActivation, Tensor]:
        """The relaxation with only the groups that hold one of the ``neurons``, a mask ``(n,)``, and the positions of
        their slots, ``(S',)``.

        A neuron that is then in no group keeps DeepPoly's lines.
        """
        blocks, kept, first = [], [self.neuron[:0]], 0
        for block in self.blocks:
            chosen = neurons[block.groups].any(1)
            positions = torch.arange(first, first + block.slots, device=neurons.device).view_as(block.groups)
            kept.append(positions[chosen].flatten())
            first += block.slots
            if bool(chosen.any()):
                blocks.append(Block(block.groups[chosen], block.table[chosen], block.sides[chosen]))
        equal_share = _equal_share(blocks, self.scale)
        return dataclasses.replace(self, blocks=tuple(blocks), equal_share=equal_share), torch.cat(kept)


def grouped(function: ActivationFunction, bounds: Bounds, joint: Sequence[JointRelaxation]) -> GroupedActivation:
    """The dual relaxation of an activation from its input's ``bounds`` (batch of one).

    ``joint`` are the joint relaxations of groups at that input, which are those of a ReLU.
    """
    return grouped_relu(bounds, joint) if function.is_relu else grouped_curve(function, bounds)


def grouped_curve(function: ActivationFunction, bounds: Bounds) -> GroupedActivation:
    """The dual relaxation of an activation whose neurons are one group each, with the vertices of its polygon."""
    lower, upper = bounds.lower.flatten(), bounds.upper.flatten()
    x, y = function.polygon(lower, upper)
    magnitude = torch.maximum(x.abs(), y.abs()).amax(0)
    scale = torch.maximum((upper - lower) / 2, _LEAST_CURVE_SCALE * magnitude).clamp(min=_LEAST_SCALE)
    groups = torch.arange(len(lower), device=lower.device)[:, None]
    no_sides = torch.zeros(len(lower), len(x), 2, dtype=torch.float32, device=lower.device)
    block = _block(groups, x.T[:, :, None], y.T[:, :, None], scale, no_sides)
    band = function.lines(lower, upper)
    return GroupedActivation(
        blocks=(block,),
        scale=scale,
        equal_share=_equal_share([block], scale),
        lower_slope=band.below.slope,
        upper_slope=band.above.slope,
        upper_intercept=band.above.intercept,
        lower_intercept=band.below.intercept,
    )


def grouped_relu(bounds: Bounds, joint: Sequence[JointRelaxation]) -> GroupedActivation:
    """The dual relaxation of a ReLU from its pre-activation ``bounds`` (batch of one) and its groups' relaxations."""
    lower, upper, kinked = (v.flatten() for v in (bounds.lower, bounds.upper, bounds.kinked))
    scale = torch.where(kinked, ((upper - lower) / 2).clamp(min=_LEAST_SCALE), 1.0)
    magnitude = torch.maximum(lower.abs(), upper.abs())
    blocks, single = [], kinked.clone()
    for same_size in joint:
        single[same_size.groups.to(lower.device).flatten()] = False
        for groups, vertices in _by_vertex_count(same_size):
            blocks.append(_joint_block(groups.to(lower.device), vertices.to(lower), scale, magnitude))
    alone = single.nonzero()
    if len(alone):
        low, high = lower[alone], upper[alone]
        vertices = torch.stack([low, torch.zeros_like(low), high], dim=1)
        blocks.insert(0, _joint_block(alone, vertices, scale, magnitude))
    lines = Relu().relax(lower[None], upper[None], "area")
    return GroupedActivation(
        blocks=tuple(blocks),
        scale=scale,
        equal_share=_equal_share(blocks, scale),
        lower_slope=lines.lower_slope[0],
        upper_slope=lines.upper_slope[0],
        upper_intercept=lines.intercept[0],
        lower_intercept=torch.zeros_like(scale),
        twins=_twin_lines(bounds, joint),
    )


def _twin_lines(bounds: Bounds, joint: Sequence[JointRelaxation]) -> TwinLines | None:
    """The lines of the pairs that are groups of their own: whose neurons are in no other group."""
    count = torch.zeros(bounds.lower.numel(), dtype=torch.long)
    for same_size in joint:
        count += torch.bincount(same_size.groups.cpu().flatten(), minlength=len(count))
    for pairs in (same_size for same_size in joint if same_size.groups.shape[1] == 2):
        alone = (count[pairs.groups.cpu()] == 1).all(1)
        if bool(alone.any()):
            device, octahedra = bounds.lower.device, pairs.octahedra  # the last direction of two is (1, -1)
            low, high = (
                side[alone.to(side.device), -1].to(device)[None] for side in (octahedra.lower, octahedra.upper)
            )
            return TwinLines.of(pairs.groups[alone].to(device), Bounds(low, high), bounds)
    return None


def _by_vertex_count(joint: JointRelaxation) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups and their vertices, without needless padding: groups with few vertices apart, if there are enough."""
    groups, vertices = joint.groups, joint.vertices
    if not len(groups):
        return
    padding = (vertices == vertices[:, :1]).all(2)  # lists are filled up with their first vertex
    count = (vertices.shape[1] - padding.flip(1).cumprod(1).sum(1)).clamp(min=1)
    few = count <= _FEW_VERTICES * vertices.shape[1]
    apart = _LEAST_GROUPS <= int(few.sum()) <= len(groups) - _LEAST_GROUPS
    for chosen in (few, ~few) if apart else (few | ~few,):
        yield groups[chosen], vertices[chosen, : int(count[chosen].max())]


def _post(vertices: Tensor) -> Tensor:
    """ReLU of vertices ``(G, V, k)``."""
    return lifted(vertices)[..., vertices.shape[2] :]


def _joint_block(groups: Tensor, vertices: Tensor, scale: Tensor, magnitude: Tensor) -> Block:
    """Groups ``(G, k)`` of ReLUs and the vertices of their pieces, ``(G, V, k)``; neurons' scales and largest
    magnitudes ``(n,)``."""
    tolerance = _SIDE_TOL * magnitude[groups].amax(1)[:, None, None]
    sides = torch.cat([vertices < -tolerance, vertices > tolerance], dim=2)
    return _block(groups, vertices, _post(vertices), scale, sides)


def _block(groups: Tensor, pre: Tensor, post: Tensor, scale: Tensor, sides: Tensor) -> Block:
    """Groups ``(G, k)`` and their vertices, ``(G, V, k)`` before and after the activation, sides ``(G, V, 2 k)``."""
    unit = scale[groups][:, None]
    table = torch.cat([post / unit, -pre / unit], dim=2)
    return Block(groups, table.transpose(1, 2).contiguous(), sides.to(table).transpose(1, 2).contiguous())


def _equal_share(blocks: Sequence[Block], scale: Tensor) -> Tensor:
    """One over the number of groups that hold each neuron, ``(n,)``; 0 for none."""
    count = torch.zeros_like(scale)
    for block in blocks:
        neurons = block.groups.flatten()
        count.index_add_(0, neurons, torch.ones_like(neurons, dtype=scale.dtype))
    return torch.where(count > 0, 1 / count.clamp(min=1), 0.0)
