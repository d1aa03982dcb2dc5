"""One evaluation of the vertex dual: the steps of a back-substitution, and of the pass forwards that is its gradient.

Backwards, a :class:`GroupStep` stands for its activation in the one traversal that all backward methods share, and
notes which vertex attains each group's minimum. Forwards, those vertices and the region's minimising point are values
of a relaxed network: the gradient at a slot is what the layer below says of the neuron less what its group's vertex
says of it. No products beyond the ones of the traversal, and no graph of operations, are needed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kreludomain.network import Network
from kreludomain.refine.dual.relaxation import Block, GroupedRelu
from kreludomain.spec import Region
from kreludomain.spec.region import ROUNDING


@dataclass(eq=False)
class GroupStep:
    """A ReLU node with multipliers for ``m`` objectives.

    ``split`` ``(S, m)`` is what each slot gets besides its equal share of its neuron's coefficient (only differences
    between a neuron's slots matter), and its slope is ``reference * part + offset``, all ``(S, m)``.

    ``temperature`` ``(m,)``: the vertices noted are weighted by ``exp(-value / temperature)``; ``None``: nothing is
    noted. The constant is the exact minimum either way.
    """

    relaxation: GroupedRelu
    split: Tensor
    offset: Tensor
    reference: Tensor | None = None
    temperature: Tensor | None = None
    parts: Tensor = field(init=False)
    slopes: Tensor = field(init=False)
    vertices: Tensor = field(init=False)
    line: Tensor = field(init=False)
    shift: Tensor | None = field(init=False)

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        r, shape = self.relaxation, coefficients.shape
        above = coefficients[0].flatten(1).T  # (n, m)
        rows = above.shape[1]
        parts = r.gathered(above) * (r.slot_share * r.slot_unit) + r.centred(self.split)
        slopes = self.offset if self.reference is None else torch.addcmul(self.offset, self.reference, parts)
        constant, first, noted = above.new_zeros(rows), 0, []
        for block in r.blocks:
            chosen = slice(first, first + block.slots)
            least, vertices = self._minimum(block, parts[chosen], slopes[chosen], self.split[chosen])
            constant, first = constant + least, chosen.stop
            noted.append(vertices)
        self.parts, self.slopes = parts, slopes
        if self.temperature is not None:
            self.vertices = torch.cat(noted, dim=1) if noted else above.new_zeros(2, 0, rows)
        self.line, self.shift = r.passing, None
        if r.loose:
            self.line, self.shift = r.lines(above)
            constant = constant + (above * self.shift).sum(0)
        below = torch.addcmul(r.summed(slopes / r.slot_unit), above, self.line)
        return (below.T.reshape(shape),), constant[None]

    def _minimum(self, block: Block, parts: Tensor, slopes: Tensor, split: Tensor) -> tuple[Tensor, Tensor]:
        """The sum of the groups' minima ``(m,)``, and the vertices' values above and below each slot, ``(2, S, m)``."""
        groups, rows = len(block.groups), parts.shape[1]
        multipliers = torch.cat([parts.view(groups, block.k, rows), slopes.view(groups, block.k, rows)], dim=1)
        total, noted = parts.new_zeros(rows), []
        for some in block.parts(rows):
            table, these = block.table[some], multipliers[some]
            if self.temperature is None:
                least = torch.bmm(these.transpose(1, 2), table).amin(2)
                size = these.abs()
                size[:, : block.k] += split.view(groups, block.k, rows)[some].abs()  # of which little may be left
                total += (least - ROUNDING * (size * block.reach[some]).sum(1)).sum(0)
                continue
            scores = torch.bmm((these / -self.temperature).transpose(1, 2).contiguous(), table)
            total -= scores.amax(2).sum(0) * self.temperature
            weights = torch.softmax(scores, 2, out=scores)
            noted.append(torch.bmm(table, weights.transpose(1, 2)))
        if self.temperature is None:
            return total, parts
        vertices = torch.cat(noted)
        return total, vertices.unflatten(1, (2, block.k)).transpose(0, 1).reshape(2, -1, rows)

    def forward(self, value: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """From the node's input values ``(m, *shape)``: its own, and the gradients in split and offset, ``(S, m)``."""
        r = self.relaxation
        below = value.flatten(1).T
        post, minus_pre = self.vertices
        by_offset = r.gathered(below) / r.slot_unit + minus_pre
        by_part = post if self.reference is None else torch.addcmul(post, self.reference, by_offset)
        mean = r.summed(by_part) * r.share[:, None]
        above = torch.addcmul(mean * r.unit[:, None], below, self.line)
        if self.shift is not None:
            above = above + self.shift
        return above.T.reshape(value.shape), by_part - r.gathered(mean), by_offset


@dataclass(eq=False)
class InputStep:
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
    network: Network, node: str, steps: Mapping[str, GroupStep], start: InputStep
) -> dict[str, tuple[Tensor, Tensor]]:
    """The gradients in split and offset of every step, after a back-substitution from ``node`` through them."""
    values, gradients = {network.input.name: start.point()}, {}
    for n in network.upto(node)[1:]:
        inputs = (values[name] for name in n.inputs)
        if n.name in steps:
            values[n.name], *parts = steps[n.name].forward(*inputs)
            gradients[n.name] = (parts[0], parts[1])
        else:
            values[n.name] = n.operator(*inputs)
    return gradients
