"""Groups of neurons whose pre-activations are correlated over the region."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.domain import Abstraction
from kreludomain.groups.by_area import ByArea
from kreludomain.groups.grouping import Grouping, by_size, twins_and_others


@dataclass(frozen=True)
class ByCorrelation(Grouping):
    """Groups of correlated neurons, as many as :class:`ByArea` makes with the same options; twins in pairs.

    An octahedron cuts off much of a group's box where its pre-activations are correlated, and nothing where their
    receptive fields do not meet. Correlations are those of ``samples`` points of the region. The score of a pair is its
    correlation times the geometric mean of the triangles' areas, that of a group the sum over its pairs; candidates
    are each neuron with ``k - 1`` of its ``partners`` best partners. The best groups are taken first, as long as they
    keep the ``overlap``, and no neuron gets many more groups than the average.
    """

    samples: int = 300
    partners: int = 10

    def groups(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        pairs, others = twins_and_others(abstraction, node, self.k)
        unstable = others.nonzero()[:, 0]
        by_area = ByArea(self.k, self.partition_size, self.overlap).groups(abstraction, node)
        if self.k == 1 or len(unstable) < 2:
            return by_area
        scores = self._pair_scores(abstraction, node, unstable)
        chosen = self._best_groups(scores, count=sum(len(same) for same in by_area) - len(pairs))
        return by_size([*pairs.cpu(), *(unstable.cpu()[torch.tensor(group, dtype=torch.int64)] for group in chosen)])

    def _pair_scores(self, abstraction: Abstraction, node: str, unstable: Tensor) -> Tensor:
        """The score of each pair of the ``n`` unstable neurons, ``(n, n)``; -1 on the diagonal."""
        network, bounds = abstraction.network, abstraction.bounds[node][0]
        points = abstraction.region[0].sample(self.samples, torch.Generator().manual_seed(0))
        values = network.values(points)[node].flatten(1)[:, unstable]
        values = values - values.mean(0)
        values = values / values.norm(dim=0).clamp(min=1e-300)
        lower, upper = (v.flatten()[unstable] for v in (bounds.lower, bounds.upper))
        area = (-lower * upper / 2).sqrt()
        result: Tensor = ((values.T @ values).abs() * area[:, None] * area).fill_diagonal_(-1.0).cpu()
        return result

    def _best_groups(self, scores: Tensor, count: int) -> list[tuple[int, ...]]:
        """At most ``count`` groups, as positions among the unstable neurons."""
        n, k = len(scores), min(self.k, len(scores))
        candidates = self._candidates(scores, k)
        pairs = list(itertools.combinations(range(k), 2))
        score = sum(scores[candidates[:, i], candidates[:, j]] for i, j in pairs)
        order = torch.as_tensor(score, dtype=scores.dtype).argsort(descending=True, stable=True)
        limit = -(-count * k // n) + 2  # groups of one neuron: the average, rounded up, and two
        used, taken, chosen = [0] * n, set[tuple[int, ...]](), list[tuple[int, ...]]()
        for group in map(tuple, candidates[order].tolist()):
            shared = list(itertools.combinations(group, self.overlap + 1))
            if any(used[i] >= limit for i in group) or any(subset in taken for subset in shared):
                continue
            chosen.append(group)
            taken.update(shared)
            for i in group:
                used[i] += 1
            if len(chosen) == count:
                break
        return chosen

    def _candidates(self, scores: Tensor, k: int) -> Tensor:
        """Each neuron with ``k - 1`` of its best partners, in every combination: distinct sorted rows ``(C, k)``."""
        n = len(scores)
        best = scores.topk(min(self.partners, n - 1), dim=1).indices
        subsets = torch.tensor(list(itertools.combinations(range(best.shape[1]), k - 1)), dtype=torch.int64)
        neurons = torch.arange(n)[:, None, None].expand(-1, len(subsets), 1)
        result: Tensor = torch.cat([neurons, best[:, subsets]], dim=2).flatten(0, 1).sort(1).values.unique(dim=0)
        return result
