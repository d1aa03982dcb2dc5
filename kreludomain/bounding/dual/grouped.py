"""What the vertex dual knows of one activation: its groups, and what their vertices are.

Coefficients ``A_j`` on the post-activations of a layer are split among the groups that hold neuron ``j``, in parts
``a_{g,j}`` of any sign. For each group and any slopes ``s_g``,

    a_g . ReLU(x)  >=  s_g . x + min over vertices v of ( a_g . ReLU(v) - s_g . v )       for all x in the octahedron,

because the difference is linear on each piece. So the layer is replaced by coefficients ``s`` on the pre-activations
and a constant. Every choice of splits and slopes is sound; the best is worth as much as the linear program over the
joint hulls. An unstable neuron in no group is a group of its own with the vertices ``l``, 0 and ``u``. A neuron of any
other activation is one too: its vertices are those of a polygon around the curve, so that its best slopes are found as
all others are.

A *slot* is one neuron of one group. Multipliers are kept slot by slot, ``(S, m)`` for ``m`` objectives, and in units of
the neuron's half width, so that a step of one size means the same everywhere.
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
from kreludomain.groups import JointRelaxation, lifted

#: Products of multipliers and vertices that are worked on at once, in MiB: what a core's cache holds.
CACHE_MB = 2
#: The least unit of a neuron: what is left of smaller ones in float32 cannot be divided by.
_LEAST = 1e-30
#: Which share of the most vertices is few, and how many groups are worth a block of their own.
_FEW, _APART = 0.6, 32
#: A vertex so near to a coordinate plane, relative to its group's largest bound, may belong to either side: far more
#: than vertices are off by.
_DUST = 1e-8
#: The least unit of a curve's neuron, relative to the values it takes and has.
_COARSE = 1e-2


@dataclass(frozen=True, eq=False)
class Block:
    """``G`` groups of one size: ``groups`` ``(G, k)`` are neurons, ``table`` ``(G, 2 k, V)`` their lifted vertices.

    A column of the table is ``(ReLU(v), -v)`` (``(y, -x)`` for a curve's polygon), in units of the neurons. ``sides``
    ``(G, 2 k, V)``: 1 where a vertex is on a neuron's negative side, and on its positive one; 0 elsewhere, where
    rounding cannot tell, and for curves, whose polygons have no sides that a split could remove.
    """

    groups: Tensor
    table: Tensor
    sides: Tensor

    @property
    def k(self) -> int:
        return self.groups.shape[1]

    @property
    def slots(self) -> int:
        return self.groups.numel()

    @cached_property
    def reach(self) -> Tensor:
        """The largest magnitude in each row of the table, ``(G, 2 k, 1)``: what rounding is measured by."""
        return self.table.abs().amax(2, keepdim=True)

    @cached_property
    def sided(self) -> Tensor:
        """The table and the sides below it, ``(G, 4 k, V)``."""
        return torch.cat([self.table, self.sides], dim=1)

    def parts(self, rows: int) -> Iterator[slice]:
        """Runs of groups whose products with ``rows`` objectives fit the cache."""
        count, vertices = self.groups.shape[0], self.table.shape[2]
        most = max(1, CACHE_MB * 2**20 // max(1, rows * vertices * self.table.element_size()))
        for start in range(0, count, most):
            yield slice(start, start + most)


@dataclass(frozen=True, eq=False)
class GroupedRelu:
    """The dual relaxation of one activation: its neurons, ``n`` in all, and their groups.

    ``unit`` ``(n,)``: half the width of each open neuron's bounds. ``share`` ``(n,)``: one over the number of groups
    that hold it (0: none). ``below`` and ``above`` ``(n,)``, with ``lower_intercept`` and ``intercept``: DeepPoly's
    lines, which are where multipliers start, and what stands for a neuron that is in no group.
    """

    blocks: tuple[Block, ...]
    unit: Tensor
    share: Tensor
    below: Tensor
    above: Tensor
    intercept: Tensor
    lower_intercept: Tensor

    @cached_property
    def neuron(self) -> Tensor:
        """The neuron of each slot, ``(S,)``."""
        empty = torch.zeros(0, dtype=torch.long, device=self.unit.device)
        return torch.cat([empty, *(block.groups.flatten() for block in self.blocks)])

    @property
    def slots(self) -> int:
        return len(self.neuron)

    @cached_property
    def splittable(self) -> Tensor:
        """The neurons of which some group has vertices on both sides, ``(n,)``."""
        both = torch.zeros_like(self.unit, dtype=torch.bool)
        for block in self.blocks:
            below, above = block.sides.any(2).chunk(2, dim=1)
            both[block.groups[below & above]] = True
        return both

    @cached_property
    def slot_unit(self) -> Tensor:
        """The unit of each slot's neuron, ``(S, 1)``."""
        return self.unit[self.neuron][:, None]

    @cached_property
    def passing(self) -> Tensor:
        """The slope of neurons in no group, ``(n, 1)``, where it is the same for all coefficients; 0 for others."""
        return ((self.share == 0) * self.below)[:, None]

    @cached_property
    def loose(self) -> bool:
        """Whether there are open neurons in no group."""
        return bool(((self.share == 0) & ((self.intercept != 0) | (self.lower_intercept != 0))).any())

    def lines(self, coefficients: Tensor) -> tuple[Tensor, Tensor]:
        """Slope and shift ``(n, m)`` of DeepPoly's lines where coefficients ``(n, m)`` meet neurons in no group."""
        chord = (coefficients < 0) & (self.share == 0)[:, None]
        shift = torch.where(chord, self.intercept[:, None], ((self.share == 0) * self.lower_intercept)[:, None])
        return torch.where(chord, self.above[:, None], self.passing), shift

    @cached_property
    def slot_share(self) -> Tensor:
        return self.share[self.neuron][:, None]

    def gathered(self, values: Tensor) -> Tensor:
        """Values of neurons ``(n, m)`` at their slots, ``(S, m)``."""
        return values.index_select(0, self.neuron)

    def summed(self, slots: Tensor) -> Tensor:
        """Values of slots ``(S, m)`` added up for each neuron, ``(n, m)``."""
        return slots.new_zeros(len(self.unit), slots.shape[1]).index_add_(0, self.neuron, slots)

    def to(self, dtype: torch.dtype, device: torch.device) -> GroupedRelu:
        """The same relaxation in another dtype, on another device."""
        blocks = tuple(
            Block(b.groups.to(device), b.table.to(device, dtype), b.sides.to(device, dtype)) for b in self.blocks
        )
        names = [f.name for f in dataclasses.fields(self) if f.name != "blocks"]
        return GroupedRelu(blocks, **{name: getattr(self, name).to(device, dtype) for name in names})

    def restricted(self, neurons: Tensor) -> tuple[GroupedRelu, Tensor]:
        """Only the groups that hold one of the ``neurons`` ``(n,)``, and which slots these are, ``(S',)``.

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
        return dataclasses.replace(self, blocks=tuple(blocks), share=_share(blocks, self.unit)), torch.cat(kept)


def grouped(function: ActivationFunction, bounds: Bounds, joint: Sequence[JointRelaxation]) -> GroupedRelu:
    """The dual relaxation of an activation from its input's ``bounds`` (batch of one).

    ``joint`` are the joint relaxations of groups at that input, which are those of a ReLU.
    """
    return grouped_relu(bounds, joint) if function.is_relu else grouped_curve(function, bounds)


def grouped_curve(function: ActivationFunction, bounds: Bounds) -> GroupedRelu:
    """The dual relaxation of an activation whose neurons are one group each, with the vertices of its polygon."""
    lower, upper = bounds.lower.flatten(), bounds.upper.flatten()
    x, y = function.polygon(lower, upper)
    # Where a neuron hardly moves, units are not so small that float32 cannot tell its vertices apart.
    reach = torch.maximum(x.abs(), y.abs()).amax(0)
    unit = torch.maximum((upper - lower) / 2, _COARSE * reach).clamp(min=_LEAST)
    groups = torch.arange(len(lower), device=lower.device)[:, None]
    none = torch.zeros(len(lower), len(x), 2, device=lower.device)
    block = _block(groups, x.T[:, :, None], y.T[:, :, None], unit, none)
    band = function.lines(lower, upper)
    return GroupedRelu(
        blocks=(block,),
        unit=unit,
        share=_share([block], unit),
        below=band.below.slope,
        above=band.above.slope,
        intercept=band.above.intercept,
        lower_intercept=band.below.intercept,
    )


def grouped_relu(bounds: Bounds, joint: Sequence[JointRelaxation]) -> GroupedRelu:
    """The dual relaxation of a ReLU from its pre-activation ``bounds`` (batch of one) and its groups' relaxations."""
    lower, upper, kinked = (v.flatten() for v in (bounds.lower, bounds.upper, bounds.kinked))
    unit = torch.where(kinked, ((upper - lower) / 2).clamp(min=_LEAST), 1.0)
    reach = torch.maximum(lower.abs(), upper.abs())
    blocks, single = [], kinked.clone()
    for same in joint:
        single[same.groups.to(lower.device).flatten()] = False
        for groups, vertices in _by_length(same):
            blocks.append(_joint_block(groups.to(lower.device), vertices.to(lower), unit, reach))
    alone = single.nonzero()
    if len(alone):
        low, high = lower[alone], upper[alone]
        vertices = torch.stack([low, torch.zeros_like(low), high], dim=1)
        blocks.insert(0, _joint_block(alone, vertices, unit, reach))
    lines = Relu().relax(lower[None], upper[None], "area")
    return GroupedRelu(
        blocks=tuple(blocks),
        unit=unit,
        share=_share(blocks, unit),
        below=lines.lower_slope[0],
        above=lines.upper_slope[0],
        intercept=lines.intercept[0],
        lower_intercept=torch.zeros_like(unit),
    )


def _by_length(joint: JointRelaxation) -> Iterator[tuple[Tensor, Tensor]]:
    """Groups and their vertices: those with few apart, which would be filled up to as many as the others have."""
    groups, vertices = joint.groups, joint.vertices
    if not len(groups):
        return
    filled = (vertices == vertices[:, :1]).all(2)  # with a group's first
    length = (vertices.shape[1] - filled.flip(1).cumprod(1).sum(1)).clamp(min=1)
    few = length <= _FEW * vertices.shape[1]
    apart = _APART <= int(few.sum()) <= len(groups) - _APART
    for chosen in (few, ~few) if apart else (few | ~few,):
        yield groups[chosen], vertices[chosen, : int(length[chosen].max())]


def _post(vertices: Tensor) -> Tensor:
    """ReLU of vertices ``(G, V, k)``."""
    return lifted(vertices)[..., vertices.shape[2] :]


def _joint_block(groups: Tensor, vertices: Tensor, unit: Tensor, reach: Tensor) -> Block:
    """Groups ``(G, k)`` of ReLUs and the vertices of their pieces, ``(G, V, k)``; neurons' largest values ``(n,)``."""
    dust = _DUST * reach[groups].amax(1)[:, None, None]
    sides = torch.cat([vertices < -dust, vertices > dust], dim=2)
    return _block(groups, vertices, _post(vertices), unit, sides)


def _block(groups: Tensor, pre: Tensor, post: Tensor, unit: Tensor, sides: Tensor) -> Block:
    """Groups ``(G, k)`` and their vertices, ``(G, V, k)`` before and after the activation, sides ``(G, V, 2 k)``."""
    scale = unit[groups][:, None]
    table = torch.cat([post / scale, -pre / scale], dim=2)
    return Block(groups, table.transpose(1, 2).contiguous(), sides.to(table).transpose(1, 2).contiguous())


def _share(blocks: Sequence[Block], unit: Tensor) -> Tensor:
    count = torch.zeros_like(unit)
    for block in blocks:
        neurons = block.groups.flatten()
        count.index_add_(0, neurons, torch.ones_like(neurons, dtype=unit.dtype))
    return torch.where(count > 0, 1 / count.clamp(min=1), 0.0)
