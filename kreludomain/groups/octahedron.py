"""Octahedra: bounds of all sums and differences of a group's pre-activations.

``P_g = {x : l_d <= d.x <= u_d for every direction d in {-1, 0, 1}^k without 0, up to sign}`` (Singh et al., NeurIPS
2019). Bounds of directions with one nonzero are the neurons' own; the others are back-substituted as one expression
each, all directions of all groups of a layer in one batch, and intersected with the bounds that the neurons' own imply.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, Bounds
from kreludomain.property import Objective, chunk_rows


@lru_cache(maxsize=8)
def directions(k: int) -> Tensor:
    """The ``(3^k - 1) / 2`` directions up to sign, ``(D, k)``: the k axes first, first nonzero entry positive."""
    rows = [d for d in itertools.product((0, 1, -1), repeat=k) if any(d) and next(filter(None, d)) == 1]
    rows.sort(key=lambda d: (sum(map(abs, d)), [-abs(entry) for entry in d]))
    return torch.tensor(rows, dtype=torch.float64)


@dataclass(frozen=True, eq=False)
class Octahedra:
    """Octahedra of ``G`` groups of ``k`` neurons: ``lower <= directions(k) @ x <= upper``, both ``(G, D)``.

    ``groups`` is ``(G, k)``: the neurons' flat positions in their layer.
    """

    groups: Tensor
    lower: Tensor
    upper: Tensor

    @property
    def k(self) -> int:
        """How many neurons a group has."""
        return self.groups.shape[1]

    @property
    def box(self) -> Octahedra:
        """The same groups with the bounds that the neurons' own imply."""
        return implied_by_box(self.groups, self.lower[:, : self.k], self.upper[:, : self.k])

    def __and__(self, other: Octahedra) -> Octahedra:
        """The intersection of two octahedra of each group."""
        return Octahedra(self.groups, torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper))

    def contains(self, x: Tensor, tolerance: float = 0.0) -> Tensor:
        """Whether points ``(N, G, k)`` lie in their group's octahedron, ``(N, G)``."""
        values = x @ directions(self.k).to(x).T
        return ((values >= self.lower - tolerance) & (values <= self.upper + tolerance)).all(-1)


def implied_by_box(groups: Tensor, lower: Tensor, upper: Tensor) -> Octahedra:
    """The octahedra that bounds ``(G, k)`` of the single neurons imply."""
    d = directions(groups.shape[1]).to(lower)
    positive, negative = d.clamp(min=0).T, d.clamp(max=0).T
    return Octahedra(groups, lower @ positive + upper @ negative, upper @ positive + lower @ negative)


def octahedra(
    abstraction: Abstraction, node: str, groups: Tensor, memory_mb: int = 512, deadline: Deadline = Deadline()
) -> Octahedra:
    """The octahedra of ``groups`` ``(G, k)`` at a pre-activation node, for an abstraction of one region."""
    bounds, k = abstraction.bounds[node][0], groups.shape[1]
    device = bounds.lower.device
    lower, upper = (v.flatten()[groups.to(device)] for v in (bounds.lower, bounds.upper))
    implied = implied_by_box(groups, lower, upper)
    joint = directions(k)[k:].long()
    if not len(joint) or not len(groups):
        return implied
    # A direction of a group as k signed neuron numbers (from 1; 0 is none); groups that share neurons share directions.
    signed = torch.where(joint == 0, 0, (groups[:, None, :] + 1) * joint)
    order = signed.abs().argsort(dim=2, descending=True)
    unique, position = signed.gather(2, order).flatten(0, 1).unique(dim=0, return_inverse=True)
    found = _bound_directions(abstraction, node, unique, memory_mb, deadline)
    low, high = (v[0][position.to(device)].reshape(len(groups), -1) for v in (found.lower, found.upper))
    whole = Octahedra(groups, torch.cat([lower, low], dim=1), torch.cat([upper, high], dim=1))
    return whole & implied


def _bound_directions(
    abstraction: Abstraction, node: str, signed: Tensor, memory_mb: int, deadline: Deadline
) -> Bounds:
    """Bounds ``(1, m)`` of the directions ``(m, k)`` of signed neuron numbers."""
    network, parts = abstraction.network, []
    for part in signed.split(chunk_rows(network, node, 1, memory_mb)):
        rows = torch.zeros(len(part), network.size(node) + 1, dtype=torch.float64)
        rows.scatter_(1, part.abs(), part.sign().double())
        parts.append(abstraction.extrema(Objective.linear(network, node, rows[:, 1:]), deadline))
    return Bounds(torch.cat([p.lower for p in parts], dim=1), torch.cat([p.upper for p in parts], dim=1))
