"""Which unstable neurons of a layer are relaxed jointly.

A grouping is any function ``(abstraction, node) -> [groups, ...]``: given what is known of the network and the name of
a pre-activation node, it returns tensors ``(G, k)`` of flat neuron positions, one tensor a group size. Groups may
overlap. Neurons in no group keep their single-neuron relaxation, so every choice is sound.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Protocol

import torch
from torch import Tensor

from kreludomain.domain import Abstraction
from kreludomain.errors import InputError


class Grouping(Protocol):
    """A strategy: which neurons of a pre-activation node are relaxed jointly."""

    def __call__(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        """Tensors ``(G, k)`` of distinct unstable neurons (flat positions), one tensor a group size ``k``."""
        ...


@dataclass(frozen=True)
class ByArea:
    """Neurons sorted by the area of their triangle, in chunks; in each chunk, groups that pairwise share few neurons.

    The published choice (Singh et al., NeurIPS 2019, section 4; Müller et al., POPL 2022, section 6): ``k`` neurons a
    group, ``chunk`` neurons a chunk, at most ``overlap`` common neurons of any two groups.
    """

    k: int = 3
    chunk: int = 20
    overlap: int = 1

    def __post_init__(self) -> None:
        if self.k < 1 or self.chunk < self.k or not 0 <= self.overlap < max(self.k, 2):
            raise InputError(
                f"grouping: k = {self.k}, chunk = {self.chunk}, overlap = {self.overlap} (1 <= k <= chunk, overlap < k)"
            )

    def __call__(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        bounds = abstraction.bounds[node][0]
        lower, upper = bounds.lower.flatten(), bounds.upper.flatten()
        area = torch.where(bounds.unstable.flatten(), -lower * upper / 2, 0.0)
        order = area.argsort(descending=True, stable=True)[: int(bounds.unstable.sum())]
        groups: list[Tensor] = []
        for chunk in order.split(self.chunk) if len(order) else ():
            pattern = sparse_cover(len(chunk), self.k, self.overlap)
            groups += [chunk.cpu()[torch.tensor(positions)] for positions in pattern]
        return by_size(groups)


#: Groupings by name, made from ``k``, ``chunk`` and ``overlap``.
GROUPINGS: dict[str, Callable[[int, int, int], Grouping]] = {"area": ByArea}


def make_grouping(grouping: str | Grouping, k: int, chunk: int, overlap: int) -> Grouping:
    """A grouping from its name and numbers; a function is returned as it is.

    Raises :class:`InputError` for an unknown name, or numbers that make no groups.
    """
    if not isinstance(grouping, str):
        return grouping
    if grouping not in GROUPINGS:
        raise InputError(f"grouping: '{grouping}' is not one of {', '.join(GROUPINGS)}")
    return GROUPINGS[grouping](k, chunk, overlap)


def by_size(groups: Iterable[Tensor]) -> list[Tensor]:
    """Groups ``(k,)`` of mixed sizes as one tensor ``(G, k)`` a size, smallest size first."""
    ordered = sorted(groups, key=len)
    return [torch.stack(list(same)) for _, same in itertools.groupby(ordered, key=len)]


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


def check_groups(groups: Sequence[Tensor], size: int, node: str) -> list[Tensor]:
    """What a grouping returned, as int64 on the CPU. Raises :class:`InputError` if it is not groups of this node."""
    checked = []
    for group in groups:
        group = torch.as_tensor(group)
        if group.dim() != 2 or group.is_floating_point():
            raise InputError(f"grouping of '{node}': integer tensors of shape (groups, k) are expected")
        group = group.long().cpu()
        ordered = group.sort(1).values
        repeated = bool((ordered[:, 1:] == ordered[:, :-1]).any())
        if len(group) and (int(group.min()) < 0 or int(group.max()) >= size or repeated):
            raise InputError(f"grouping of '{node}': positions must be distinct and below {size}")
        if len(group):
            checked.append(group)
    return checked
