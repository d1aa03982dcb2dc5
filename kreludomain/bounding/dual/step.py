"""One evaluation of the vertex dual: a back-substitution, and a pass forwards that is its gradient.

Backwards, a :class:`GroupRelaxation` stands for its activation in the one traversal that all backward methods share,
and keeps the vertex that attains each group's minimum. Forwards, those vertices and the region's minimising point are
values of a relaxed network: the gradient by a slope is the neuron's value as the layer below gives it, less its value
at its group's vertex. No products beyond those of the traversal are needed, and no graph of operations.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kreludomain.bounding.dual.grouped import Block, GroupedActivation
from kreludomain.network import Network
from kreludomain.property import Region
from kreludomain.rounding import ROUNDING, gamma

#: The penalty on a vertex that a split excludes. Any number is sound: the subproblem has no values on that side.
SPLIT_PENALTY = 1e30
#: From so many objectives on they are innermost in memory rather than the vertices: products and minima are then up to
#: twice as fast.
_WIDE = 16
#: A vertex's weight in the smoothed minimum is ``(1 - excess / (6 temperature))^4``, and 0 from 6 temperatures above
#: the minimum on. That converges as well as ``exp(-excess / temperature)``, an eighth of a step quicker, and is never
#: a denormal number.
_SMOOTHING_RANGE = 6.0


@dataclass(eq=False)
class GroupRelaxation:
    """An activation with multipliers for ``m`` objectives.

    ``allocation`` ``(S, m)``: how much of its neuron's coefficient each slot gets besides an equal share (only
    differences between a neuron's slots matter). A slot's slope is ``reference * part + offset``, all ``(S, m)``, where
    its part is all that it gets; without ``reference`` it is the offset.

    ``split_penalty`` ``(2, S, m)``: ``SPLIT_PENALTY`` where a split excludes negative values of a slot's neuron, and
    where it excludes positive ones; 0 elsewhere. It is added to the values of vertices there, so that they are not
    where a minimum is.

    ``temperature`` ``(m,)``: for :meth:`forward`, each group's vertex is a mean of those that are near its minimum in
    units of the temperature (``None``: there is no pass forwards). The constant is the exact minimum either way.
    """

    relaxation: GroupedActivation
    allocation: Tensor
    offset: Tensor
    reference: Tensor | None = None
    temperature: Tensor | None = None
    split_penalty: Tensor | None = None
    parts: Tensor = field(init=False)
    slopes: Tensor = field(init=False)
    vertices: list[Tensor] = field(init=False, default_factory=list)
    ungrouped_slope: Tensor = field(init=False)
    ungrouped_intercept: Tensor | None = field(init=False)

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        r, shape = self.relaxation, coefficients.shape
        above = coefficients[0].flatten(1).T  # (n, m)
        # A slot's part: its allocation, and its share of what the allocations of its neuron's slots leave.
        rest = torch.addcmul(-r.summed(self.allocation), above, r.scale[:, None])
        parts = r.gathered(rest.mul_(r.equal_share[:, None])).add_(self.allocation)
        slopes = self.offset if self.reference is None else torch.addcmul(self.offset, self.reference, parts)
        constant, first = above.new_zeros(above.shape[1]), 0
        for block in r.blocks:
            slots = slice(first, first + block.slots)
            first = slots.stop
            if self.temperature is None:
                constant += self._certified_minimum(block, slots, parts, slopes)
            else:
                constant += self._smoothed_minimum(block, slots, parts, slopes, self.temperature)
        self.parts, self.slopes = parts, slopes
        self.ungrouped_slope, self.ungrouped_intercept = r.ungrouped_slope, None
        if r.has_ungrouped:
            self.ungrouped_slope, self.ungrouped_intercept = r.ungrouped_lines(above)
            constant += (above * self.ungrouped_intercept).sum(0)
        below = torch.addcmul(r.summed(slopes).div_(r.scale[:, None]), above, self.ungrouped_slope)
        return (below.T.reshape(shape),), constant[None]

    def _smoothed_minimum(
        self, block: Block, slots: slice, parts: Tensor, slopes: Tensor, temperature: Tensor
    ) -> Tensor:
        """The sum of the groups' minima ``(m,)``; the weighted means of vertices near them are kept for
        :meth:`forward`."""
        objectives, table = parts.shape[1], block.table if self.split_penalty is None else block.table_and_sides
        total, inverse = parts.new_zeros(objectives), 1 / temperature
        vertices = parts.new_empty(len(block.groups), 2 * block.k, objectives)
        for groups in block.batches(objectives):
            values = _products(table[groups], self._by_group(block, slots, groups, parts, slopes, inverse))
            minimum = _minimum(values)
            total += minimum.sum((0, 1))
            weights = torch.sub(minimum, values, out=values).add_(_SMOOTHING_RANGE).clamp_(min=0).square_().square_()
            torch.bmm(block.table[groups], weights, out=vertices[groups])
            vertices[groups].div_(weights.sum(1, keepdim=True))
        self.vertices.append(vertices)
        return total.mul_(temperature)

    def _certified_minimum(self, block: Block, slots: slice, parts: Tensor, slopes: Tensor) -> Tensor:
        """The sum of the groups' minima ``(m,)``, less what rounding can do to them and to allocations that cancel."""
        total, both = parts.new_zeros(parts.shape[1]), slice(0, 2 * block.k)
        relative = max(ROUNDING, gamma(len(block.groups)))
        table = block.table if self.split_penalty is None else block.table_and_sides
        for groups in block.batches(parts.shape[1]):
            multipliers = self._by_group(block, slots, groups, parts, slopes, 1.0)
            minimum = _minimum(_products(table[groups], multipliers))
            magnitude = torch.bmm(block.magnitude[groups].transpose(1, 2), multipliers[:, both].abs())
            total += (minimum - relative * magnitude).sum((0, 1))
        # A neuron's parts add up to its coefficient only up to rounding in proportion to their allocations.
        total -= relative * (block.magnitude[:, : block.k].reshape(1, -1) @ self.allocation[slots].abs())[0]
        return total

    def _by_group(
        self, block: Block, slots: slice, groups: slice, parts: Tensor, slopes: Tensor, factor: Tensor | float
    ) -> Tensor:
        """Parts and slopes of some of a block's groups, one below the other, times ``factor``: ``(G, 2 k, m)``.

        With splits, their penalties are below these: ``(G, 4 k, m)``.
        """
        objectives, (count, k) = parts.shape[1], block.groups[groups].shape
        chosen = slice(slots.start + groups.start * k, slots.start + (groups.start + count) * k)
        stacked = [(parts, factor), (slopes, factor)]
        if self.split_penalty is not None:
            stacked += [(side, 1.0) for side in self.split_penalty]
        result = parts.new_empty(count, len(stacked) * k, objectives)
        for position, (values, times) in enumerate(stacked):
            out = result[:, position * k : (position + 1) * k]
            torch.mul(values[chosen].view(count, k, objectives), times, out=out)
        return result

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The node's values from its input's, ``(m, *shape)``, and the gradients by allocation and offset,
        ``(2, S, m)``."""
        r = self.relaxation
        below = value.flatten(1).T
        by_part, by_offset = gradients = below.new_empty(2, r.slots, below.shape[1])
        torch.index_select(below / r.scale[:, None], 0, r.neuron, out=by_offset)
        first = 0
        for block, vertices in zip(r.blocks, self.vertices, strict=True):
            slots = slice(first, first + block.slots)
            first = slots.stop
            by_offset[slots].unflatten(0, block.groups.shape).add_(vertices[:, block.k :])
            by_part[slots].unflatten(0, block.groups.shape).copy_(vertices[:, : block.k])
        if self.reference is not None:
            by_part.addcmul_(self.reference, by_offset)
        mean = r.summed(by_part).mul_(r.equal_share[:, None])
        by_part -= r.gathered(mean)  # now by allocation
        above = torch.addcmul(mean.mul_(r.scale[:, None]), below, self.ungrouped_slope)
        if self.ungrouped_intercept is not None:
            above += self.ungrouped_intercept
        return above.T.reshape(value.shape), gradients


def _products(table: Tensor, multipliers: Tensor) -> Tensor:
    """Vertices ``(G, j, V)`` times multipliers ``(G, j, m)``: ``(G, V, m)``, laid out to be quick to reduce."""
    if multipliers.shape[2] < _WIDE:
        return torch.bmm(multipliers.transpose(1, 2), table).transpose(1, 2)
    return torch.bmm(table.transpose(1, 2), multipliers)


def _minimum(values: Tensor) -> Tensor:
    """The minimum of ``(G, V, m)`` over V, ``(G, 1, m)``.

    Of many objectives by overlapping halves: a reduction over so few is up to six times slower where ``m`` is no
    multiple of a vector.
    """
    if values.shape[2] < _WIDE:
        return values.amin(1, keepdim=True)
    while values.shape[1] > 1:
        half = (values.shape[1] + 1) // 2
        values = torch.minimum(values[:, :half], values[:, -half:])
    return values


@dataclass(eq=False)
class InputRelaxation:
    """The region in a back-substitution: backwards it concretises, forwards it is the point of the minimum."""

    region: Region
    coefficients: Tensor = field(init=False)

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        self.coefficients = coefficients
        return self.region.backward(coefficients)

    def point(self) -> Tensor:
        """The input of the last back-substitution's minimum, ``(m, *shape)``."""
        return self.region.minimiser(self.coefficients)[0]


def gradient(
    network: Network, node: str, relaxations: Mapping[str, GroupRelaxation], start: InputRelaxation
) -> tuple[Tensor, dict[str, Tensor]]:
    """The pass forwards, after a back-substitution from ``node`` through the relaxations.

    Returns the values of ``node``, ``(m, *shape)``, where the relaxed network's minimum is, and the gradient of each
    activation's allocation and offset, ``(2, S, m)``.
    """
    values, gradients = {network.input.name: start.point()}, {}
    for n in network.ancestors(node)[1:]:
        inputs = (values[name] for name in n.inputs)
        if n.name in relaxations:
            values[n.name], gradients[n.name] = relaxations[n.name].forward(*inputs)
        else:
            values[n.name] = n.operator(*inputs)
    return values[node], gradients
