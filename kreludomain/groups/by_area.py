"""Groups of the neurons whose triangles have the largest areas: the published choice."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from kreludomain.domain import Abstraction
from kreludomain.groups.grouping import Grouping, by_size, twins_and_others


@dataclass(frozen=True)
class ByArea(Grouping):
    """Unstable neurons sorted by the area of their triangle relaxation, and partitioned in this order; twins in pairs.

    In each partition the groups are those of :func:`sparse_cover`. Singh et al., "Beyond the single neuron convex
    barrier" (NeurIPS 2019), section 4; Müller et al., "PRIMA" (POPL 2022), section 6.
    """

    def groups(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        bounds = abstraction.bounds[node][0]
        lower, upper = bounds.lower.flatten(), bounds.upper.flatten()
        pairs, others = twins_and_others(abstraction, node, self.k)
        area = torch.where(others, -lower * upper / 2, -1.0)
        order = area.argsort(descending=True, stable=True)[: int(others.sum())]
        groups = list(pairs.cpu())
        for partition in order.split(self.partition_size) if len(order) else ():
            cover = sparse_cover(len(partition), self.k, self.overlap)
            groups += [partition.cpu()[torch.tensor(positions, dtype=torch.int64)] for positions in cover]
        return by_size(groups)


@lru_cache(maxsize=256)
def sparse_cover(count: int, k: int, overlap: int) -> tuple[tuple[int, ...], ...]:
    """Groups of ``k`` of ``count`` positions, any two with at most ``overlap`` in common, covering every position.

    Greedy in lexicographic order. A position that no group of ``k`` has room for gets the largest smaller group that
    keeps the overlap.
    """
    chosen: list[frozenset[int]] = []

    def fits(candidate: frozenset[int]) -> bool:
        return all(len(candidate & other) <= overlap for other in chosen)

    for candidate in map(frozenset, itertools.combinations(range(count), min(k, count))):
        if fits(candidate):
            chosen.append(candidate)
    for position in range(count):
        if any(position in group for group in chosen):
            continue
        others = [p for p in range(count) if p != position]
        smaller = (
            frozenset((position, *rest))
            for size in range(min(k, count) - 1, 0, -1)
            for rest in itertools.combinations(others, size - 1)
        )
        chosen.append(next(filter(fits, smaller)))
    return tuple(tuple(sorted(group)) for group in chosen)
