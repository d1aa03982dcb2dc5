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
        area = torch.where(bounds.kinked.flatten(), -lower * upper / 2, 0.0)
        order = area.argsort(descending=True, stable=True)[: int(bounds.kinked.sum())]
        groups: list[Tensor] = []
        for chunk in order.split(self.chunk) if len(order) else ():
            pattern = sparse_cover(len(chunk), self.k, self.overlap)
            groups += [chunk.cpu()[torch.tensor(positions)] for positions in pattern]
        return by_size(groups)


@dataclass(frozen=True)
class ByCorrelation:
    """Neurons that move together over the region, as many groups as :class:`ByArea` makes of the same numbers.

    An octahedron cuts off much of a group's box where its pre-activations are correlated, and nothing where their
    receptive fields do not meet. Correlations are those of ``samples`` points of the region; a group is worth the sum
    over its pairs of correlation times the geometric mean of the triangles' areas. The best groups are taken first,
    with at most ``overlap`` neurons in common, and none of a neuron's groups more than its share.
    """

    k: int = 3
    chunk: int = 20
    overlap: int = 1
    samples: int = 300
    partners: int = 10

    def __post_init__(self) -> None:
        ByArea(self.k, self.chunk, self.overlap)

    def __call__(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        bounds = abstraction.bounds[node][0]
        unstable = bounds.kinked.flatten().nonzero()[:, 0]
        if self.k == 1 or len(unstable) < 2:
            return ByArea(self.k, self.chunk, self.overlap)(abstraction, node)
        worth = self._worth(abstraction, node, unstable)
        count = sum(len(same) for same in ByArea(self.k, self.chunk, self.overlap)(abstraction, node))
        groups = [unstable.cpu()[torch.tensor(group)] for group in self._chosen(worth, count)]
        return by_size(groups)

    def _worth(self, abstraction: Abstraction, node: str, unstable: Tensor) -> Tensor:
        """What each pair of unstable neurons is worth, ``(n, n)``; on the diagonal less than any pair."""
        network, bounds = abstraction.network, abstraction.bounds[node][0]
        points = abstraction.region[0].sample(self.samples, torch.Generator().manual_seed(0))
        values = network.values(points)[node].flatten(1)[:, unstable]
        values = values - values.mean(0)
        values = values / values.norm(dim=0).clamp(min=1e-300)
        lower, upper = (v.flatten()[unstable] for v in (bounds.lower, bounds.upper))
        area = (-lower * upper / 2).sqrt()
        return ((values.T @ values).abs() * area[:, None] * area).fill_diagonal_(-1.0).cpu()

    def _chosen(self, worth: Tensor, count: int) -> list[tuple[int, ...]]:
        n, k = len(worth), min(self.k, len(worth))
        best = worth.topk(min(self.partners, n - 1), dim=1).indices
        subsets = torch.tensor(list(itertools.combinations(range(best.shape[1]), k - 1)))
        neurons = torch.arange(n)[:, None, None].expand(-1, len(subsets), 1)
        candidates = torch.cat([neurons, best[:, subsets]], dim=2).flatten(0, 1).sort(1).values.unique(dim=0)
        pairs = list(itertools.combinations(range(k), 2))
        value = sum(worth[candidates[:, i], candidates[:, j]] for i, j in pairs)
        order = torch.as_tensor(value).argsort(descending=True, stable=True)
        most = -(-count * k // n) + 2  # of one neuron's groups: its share, and some
        used, taken, chosen = [0] * n, set[tuple[int, ...]](), list[tuple[int, ...]]()
        for group in map(tuple, candidates[order].tolist()):
            shared = list(itertools.combinations(group, self.overlap + 1))
            if any(used[i] >= most for i in group) or any(pair in taken for pair in shared):
                continue
            chosen.append(group)
            taken.update(shared)
            for i in group:
                used[i] += 1
            if len(chosen) == count:
                break
        return chosen


@dataclass(frozen=True)
class Auto:
    """:class:`ByCorrelation` where neurons have places, as in convolutions, :class:`ByArea` elsewhere.

    That is what won with as many groups each: neurons whose receptive fields do not meet gain nothing together, while
    in dense layers all are coupled somewhat and groups of the largest triangles gain more.
    """

    k: int = 3
    chunk: int = 20
    overlap: int = 1

    def __post_init__(self) -> None:
        ByArea(self.k, self.chunk, self.overlap)

    def __call__(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        kind = ByCorrelation if len(abstraction.network[node].shape) == 3 else ByArea
        return kind(self.k, self.chunk, self.overlap)(abstraction, node)


#: Groupings by name, made from ``k``, ``chunk`` and ``overlap``.
GROUPINGS: dict[str, Callable[[int, int, int], Grouping]] = {"auto": Auto, "area": ByArea, "coupling": ByCorrelation}


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
