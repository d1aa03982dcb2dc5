"""The interface of groupings: each chooses which neurons of a layer are relaxed jointly.

Groups may overlap, and neurons in no group keep their single-neuron relaxation, so every choice is sound.
"""

from __future__ import annotations

import itertools
from abc import ABC, abstractmethod
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from kreludomain.domain import Abstraction
from kreludomain.errors import InputError
from kreludomain.options import Options


@dataclass(frozen=True)
class Grouping(Options, ABC):
    """A rule for groups of ``k`` neurons of a layer, and the options that every rule has.

    Groups are taken from partitions of ``partition_size`` neurons (``n_s`` in PRIMA), any two with at most ``overlap``
    neurons in common (``s`` there). Raises :class:`InputError` unless ``1 <= k <= partition_size`` and
    ``0 <= overlap < k`` (for ``k`` = 1, ``overlap`` may be 1: groups of one have nothing in common).
    """

    k: int = 3
    partition_size: int = 20
    overlap: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1 or self.partition_size < self.k or not 0 <= self.overlap < max(self.k, 2):
            raise InputError(
                f"grouping: k = {self.k}, partition_size = {self.partition_size}, overlap = {self.overlap} "
                "(1 <= k <= partition_size, overlap < k)"
            )

    @abstractmethod
    def groups(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        """Groups of the pre-activation ``node``: integer tensors ``(G, k)``, one a group size.

        A row has distinct flat positions of unstable neurons (``abstraction.bounds[node].kinked``).
        """


@dataclass(frozen=True)
class NoGroups(Grouping):
    """No groups: every neuron is relaxed alone."""

    def groups(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        return []


def twins_and_others(abstraction: Abstraction, node: str, k: int) -> tuple[Tensor, Tensor]:
    """Twins of a node whose kinks are both within their bounds, pairs ``(P, 2)``, and which other neurons have one.

    The others are a mask ``(n,)``. What a network and its copy differ by rests on pairs of twins: each is a group of
    its own, in every grouping of groups of two or more.
    """
    kinked = abstraction.bounds[node][0].kinked.flatten()
    pairs = abstraction.network.twins.get(node)
    if pairs is None or k < 2:
        return kinked.new_zeros(0, 2, dtype=torch.long), kinked
    pairs = pairs[kinked[pairs].all(1)]
    return pairs, kinked.index_fill(0, pairs.flatten(), False)


def by_size(groups: Iterable[Tensor]) -> list[Tensor]:
    """Groups ``(k,)`` of mixed sizes as one tensor ``(G, k)`` a size, smallest size first."""
    ordered = sorted(groups, key=len)
    return [torch.stack(list(same)) for _, same in itertools.groupby(ordered, key=len)]


def check_groups(groups: Sequence[Tensor], size: int, node: str) -> list[Tensor]:
    """The groups that a grouping returned, as int64 on the CPU, without empty tensors.

    ``size``: how many neurons the node has. Raises :class:`InputError` if these are not groups of its neurons.
    """
    checked = []
    for group in groups:
        group = group if isinstance(group, Tensor) else torch.from_numpy(np.array(group))
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
