"""The open subproblems of a branch and bound search, and the bounds that they certify.

Whatever leaves a set of open subproblems counts as proved. So nothing leaves this one but by a proof: a subproblem that
is taken still counts with its bound, until it is replaced by parts that cover it or kept for good. One that a search
forgets, or that a deadline or an exception leaves half done, can lower the certified bound, and cannot raise it.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Iterator, Sequence
from typing import Generic, NamedTuple, TypeVar

Item = TypeVar("Item")


class Subproblem(NamedTuple, Generic[Item]):
    """A part of the region: a sound lower ``bound`` of objective ``row`` there, and whatever a search has to know of it
    as its ``item``. ``order`` counts subproblems."""

    bound: float
    order: int
    row: int
    item: Item


class OpenSet(Generic[Item]):
    """Subproblems of some objectives, and for each objective the least bound over all of its subproblems.

    It begins with one subproblem for each of ``root_items``, the whole region: its bound is -inf, and it is taken
    already (``roots``). ``best_first``: subproblems with the least bounds are taken first; else the latest ones are.
    """

    def __init__(self, root_items: Sequence[Item], best_first: bool = True) -> None:
        self.roots = [Subproblem(-math.inf, row, row, item) for row, item in enumerate(root_items)]
        self._best_first = best_first
        self._waiting: list[Subproblem[Item]] = []
        self._taken = {root.order: root for root in self.roots}
        self._kept: list[Subproblem[Item]] = []
        self._proved = [math.inf] * len(root_items)
        self._count = len(root_items)

    def __len__(self) -> int:
        """How many subproblems are open."""
        return len(self._waiting) + len(self._taken) + len(self._kept)

    def __iter__(self) -> Iterator[Subproblem[Item]]:
        """All subproblems that are open: first those that wait."""
        yield from self._waiting
        yield from self._taken.values()
        yield from self._kept

    @property
    def waiting(self) -> int:
        """How many subproblems there are to take."""
        return len(self._waiting)

    @property
    def least(self) -> float:
        """The least bound of all that is open, over all objectives; infinite if nothing is."""
        waiting = self._waiting[:1] if self._best_first else self._waiting
        return min(
            (each.bound for part in (waiting, self._taken.values(), self._kept) for each in part), default=math.inf
        )

    def lower(self) -> list[float]:
        """The certified bound of each objective: the least over all of its subproblems."""
        lower = self._proved.copy()
        for each in self:
            lower[each.row] = min(lower[each.row], each.bound)
        return lower

    def proved(self, row: int = 0) -> float:
        """The least bound of an objective over its subproblems that are proved."""
        return self._proved[row]

    def take(self, most: int = 1) -> list[Subproblem[Item]]:
        """The next subproblems, at most so many. They stay open until they are replaced or kept."""
        first = max(0, len(self._waiting) - most)
        if self._best_first:
            taken = [heapq.heappop(self._waiting) for _ in range(len(self._waiting) - first)]
        else:
            taken = self._waiting[first:]
            del self._waiting[first:]
        self._taken.update((each.order, each) for each in taken)
        return taken

    def put_back(self, subproblem: Subproblem[Item]) -> None:
        """A subproblem that was taken can be taken again."""
        self._release(subproblem)
        self._wait(subproblem)

    def replace(
        self, subproblem: Subproblem[Item], parts: Sequence[tuple[float, Item]], proved: Sequence[float] = ()
    ) -> None:
        """Replaces a subproblem that was taken by parts that cover it.

        ``parts``: bound and item of each that is open; ``proved``: the bounds of those that are proved. No bound is
        below the subproblem's own, and one that is NaN is that one. Raises ``ValueError`` if there is no part at all.
        """
        if not parts and not proved:
            raise ValueError("a subproblem is replaced by nothing: that would count as a proof")
        self._release(subproblem)
        for bound in proved:
            self._proved[subproblem.row] = min(self._proved[subproblem.row], _raised(bound, subproblem))
        for bound, item in parts:
            self._wait(Subproblem(_raised(bound, subproblem), self._count, subproblem.row, item))
            self._count += 1

    def keep(self, subproblem: Subproblem[Item], bound: float) -> None:
        """A subproblem that was taken stays open for good, with this bound: there is nothing left to split."""
        self._release(subproblem)
        self._kept.append(subproblem._replace(bound=_raised(bound, subproblem)))

    def _release(self, subproblem: Subproblem[Item]) -> None:
        if self._taken.pop(subproblem.order, None) is None:
            raise ValueError(f"subproblem {subproblem.order} is not taken")

    def _wait(self, subproblem: Subproblem[Item]) -> None:
        if self._best_first:
            heapq.heappush(self._waiting, subproblem)
        else:
            self._waiting.append(subproblem)


def _raised(bound: float, subproblem: Subproblem[Item]) -> float:
    """A part's bound: what holds in a subproblem holds in its parts; NaN is no bound."""
    return bound if bound > subproblem.bound else subproblem.bound
