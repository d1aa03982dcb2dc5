"""One evaluation of the vertex dual: the steps of a back-substitution, and of the pass forwards that is its gradient.

Backwards, a :class:`GroupRelaxation` stands for its activation in the one traversal that all backward methods share,
and notes which vertex attains each group's minimum. Forwards, those vertices and the region's minimising point are
values of a relaxed network: the gradient at a slot is what the layer below says of the neuron less what its group's
vertex says of it. No products beyond the ones of the traversal, and no graph of operations, are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kreludomain.bounding.dual.grouped import Block, GroupedRelu
from kreludomain.network import Network
from kreludomain.property import Region
from kreludomain.rounding import ROUNDING, gamma

#: What a vertex costs that a split removes. Any number is sound: no value on the other side is where the vertex is.
REMOVED = 1e30
#: From how many objectives on they are innermost in memory rather than the vertices: products and minima are then up to
#: twice as fast.
_WIDE = 16
#: Vertices are weighed by ``(1 - excess / (6 temperature))^4``, not at all from 6 temperatures above the minimum on. It
#: climbs as well as ``exp(-excess / temperature)`` does, an eighth of a step quicker, and is never a denormal number.
_REACH = 6.0


@dataclass(eq=False)
class GroupRelaxation:
    """A ReLU node with multipliers for ``m`` objectives.

    ``split`` ``(S, m)`` is what each slot gets besides its equal share of its neuron's coefficient (only differences
    between a neuron's slots matter), and its slope is ``reference * part + offset``, all ``(S, m)``.

    ``removal`` ``(2, S, m)``: ``REMOVED`` where a split leaves no negative values of a slot's neuron, and where it
    leaves no positive ones; 0 elsewhere. It is what vertices there cost, so they are not where a minimum is.

    ``temperature`` ``(m,)``: what is noted is the mean of the vertices that are not far above the minimum, in units of
    the temperature, the weightier the nearer; ``None``: nothing is noted. The constant is the exact minimum either way.
    """

    relaxation: GroupedRelu
    split: Tensor
    offset: Tensor
    reference: Tensor | None = None
    temperature: Tensor | None = None
    removal: Tensor | None = None
    parts: Tensor = field(init=False)
    slopes: Tensor = field(init=False)
    vertices: list[Tensor] = field(init=False, default_factory=list)
    line: Tensor = field(init=False)
    shift: Tensor | None = field(init=False)

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        r, shape = self.relaxation, coefficients.shape
        above = coefficients[0].flatten(1).T  # (n, m)
        # Each slot's part: what it gets, and its share of what the slots of its neuron have not got.
        left = torch.addcmul(-r.summed(self.split), above, r.unit[:, None])
        parts = r.gathered(left.mul_(r.share[:, None])).add_(self.split)
        slopes = self.offset if self.reference is None else torch.addcmul(self.offset, self.reference, parts)
        constant, first = above.new_zeros(above.shape[1]), 0
        for block in r.blocks:
            of = slice(first, first + block.slots)
            first = of.stop
            if self.temperature is None:
                constant += self._minimum(block, of, parts, slopes)
            else:
                constant += self._noted(block, of, parts, slopes)
        self.parts, self.slopes = parts, slopes
        self.line, self.shift = r.passing, None
        if r.loose:
            self.line, self.shift = r.lines(above)
            constant += (above * self.shift).sum(0)
        below = torch.addcmul(r.summed(slopes).div_(r.unit[:, None]), above, self.line)
        return (below.T.reshape(shape),), constant[None]

    def _noted(self, block: Block, of: slice, parts: Tensor, slopes: Tensor) -> Tensor:
        """The sum of the groups' minima ``(m,)``; which vertices they are at, weighted, is kept for :meth:`forward`."""
        assert self.temperature is not None
        rows, table = parts.shape[1], block.table if self.removal is None else block.sided
        total, sharpness = parts.new_zeros(rows), 1 / self.temperature
        vertices = parts.new_empty(len(block.groups), 2 * block.k, rows)
        for some in block.parts(rows):
            values = _products(table[some], self._by_group(block, of, some, parts, slopes, sharpness))
            least = _least(values)
            total += least.sum((0, 1))
            weights = torch.sub(least, values, out=values).add_(_REACH).clamp_(min=0).square_().square_()
            torch.bmm(block.table[some], weights, out=vertices[some])
            vertices[some].div_(weights.sum(1, keepdim=True))
        self.vertices.append(vertices)
        return total.mul_(self.temperature)

    def _minimum(self, block: Block, of: slice, parts: Tensor, slopes: Tensor) -> Tensor:
        """The sum of the groups' minima ``(m,)``, less what rounding can do to them, and to splits that cancel."""
        total, both = parts.new_zeros(parts.shape[1]), slice(0, 2 * block.k)
        relative = max(ROUNDING, gamma(len(block.groups)))
        table = block.table if self.removal is None else block.sided
        for some in block.parts(parts.shape[1]):
            multipliers = self._by_group(block, of, some, parts, slopes, 1.0)
            least = _least(_products(table[some], multipliers))
            off = torch.bmm(block.reach[some].transpose(1, 2), multipliers[:, both].abs())
            total += (least - relative * off).sum((0, 1))
        # A part may be what is little left of a split: parts do not add up to the coefficient, by that much.
        total -= relative * (block.reach[:, : block.k].reshape(1, -1) @ self.split[of].abs())[0]
        return total

    def _by_group(
        self, block: Block, of: slice, some: slice, parts: Tensor, slopes: Tensor, weight: Tensor | float
    ) -> Tensor:
        """Parts and slopes of some of a block's groups, one below the other, times ``weight``: ``(G, 2 k, m)``.

        With splits, what removes vertices stands below them: ``(G, 4 k, m)``.
        """
        rows, (groups, k) = parts.shape[1], block.groups[some].shape
        chosen = slice(of.start + some.start * k, of.start + (some.start + groups) * k)
        stacked = [(parts, weight), (slopes, weight)]
        if self.removal is not None:
            stacked += [(side, 1.0) for side in self.removal]
        result = parts.new_empty(groups, len(stacked) * k, rows)
        for position, (values, factor) in enumerate(stacked):
            torch.mul(values[chosen].view(groups, k, rows), factor, out=result[:, position * k : (position + 1) * k])
        return result

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor]:
        """The node's values from its input's, ``(m, *shape)``, and the gradients in split and offset, ``(2, S, m)``."""
        r = self.relaxation
        below = value.flatten(1).T
        by_part, by_offset = gradients = below.new_empty(2, r.slots, below.shape[1])
        torch.index_select(below / r.unit[:, None], 0, r.neuron, out=by_offset)
        first = 0
        for block, vertices in zip(r.blocks, self.vertices, strict=True):
            of = slice(first, first + block.slots)
            first = of.stop
            by_offset[of].unflatten(0, block.groups.shape).add_(vertices[:, block.k :])
            by_part[of].unflatten(0, block.groups.shape).copy_(vertices[:, : block.k])
        if self.reference is not None:
            by_part.addcmul_(self.reference, by_offset)
        mean = r.summed(by_part).mul_(r.share[:, None])
        by_part -= r.gathered(mean)
        above = torch.addcmul(mean.mul_(r.unit[:, None]), below, self.line)
        if self.shift is not None:
            above += self.shift
        return above.T.reshape(value.shape), gradients


def _products(table: Tensor, multipliers: Tensor) -> Tensor:
    """Vertices ``(G, j, V)`` times multipliers ``(G, j, m)``: ``(G, V, m)``, laid out to be quick to reduce."""
    if multipliers.shape[2] < _WIDE:
        return torch.bmm(multipliers.transpose(1, 2), table).transpose(1, 2)
    return torch.bmm(table.transpose(1, 2), multipliers)


def _least(values: Tensor) -> Tensor:
    """The least of ``(G, V, m)`` over V, ``(G, 1, m)``.

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
    """The region as a step: backwards it concretises, forwards it is the point that attains the minimum."""

    region: Region
    coefficients: Tensor = field(init=False)

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        self.coefficients = coefficients
        return self.region.backward(coefficients)

    def point(self) -> Tensor:
        """``(m, *shape)``."""
        return self.region.minimiser(self.coefficients)[0]


def gradient(
    network: Network, node: str, steps: Mapping[str, GroupRelaxation], start: InputRelaxation
) -> tuple[Tensor, dict[str, Tensor]]:
    """The values of ``node``, ``(m, *shape)``, where the relaxed network's minimum is, and the gradients of every step,
    ``(2, S, m)``, after a back-substitution from ``node`` through them."""
    values, gradients = {network.input.name: start.point()}, {}
    for n in network.ancestors(node)[1:]:
        inputs = (values[name] for name in n.inputs)
        if n.name in steps:
            values[n.name], gradients[n.name] = steps[n.name].forward(*inputs)
        else:
            values[n.name] = n.operator(*inputs)
    return values[node], gradients
