"""Mixed-integer programs in the time there is: many trees side by side, neurons' bounds, and objectives."""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Lock

import torch
from torch import Tensor

from kreludomain.branching.milp.phases import PhaseSession
from kreludomain.branching.milp.tree import CLAIM, MINIMUM, SIGN, Cutoffs, Tree, TreeStatus
from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, Bounds, LowerBounds
from kreludomain.errors import InputError
from kreludomain.programs import RelaxedNetwork, relax_network
from kreludomain.property import Objective

#: Linear programs that a tree is given at a time.
_SLICE = 16

#: The gap that a tree is thought to close with one linear program while it has closed none, as a share of all of it.
_SLOWEST = 1e-3


def advance_all(
    trees: Sequence[Tree], priority: Callable[[int], float], deadline: Deadline = Deadline(), threads: int = 1
) -> None:
    """Advances trees of one program, the one of the highest ``priority(position)`` first, until all have come to an
    end.

    A priority is asked for anew whenever its tree has advanced; trees of priority -inf are left as they are. Every
    thread has a copy of the program in HiGHS.
    """
    lock, waiting = Lock(), [(-priority(i), i) for i in range(len(trees))]
    heapq.heapify(waiting)

    def work() -> None:
        session: PhaseSession | None = None
        while not deadline.passed:
            with lock:
                if not waiting:
                    return
                _, position = heapq.heappop(waiting)
            tree = trees[position]
            if tree.status is TreeStatus.OPEN and priority(position) > -math.inf:
                session = session or PhaseSession(tree.relaxed)
                tree.advance(session, _SLICE, deadline)
                with lock:
                    heapq.heappush(waiting, (-priority(position), position))

    if threads == 1:
        work()
        return
    with ThreadPoolExecutor(threads) as pool:
        for job in [pool.submit(work) for _ in range(threads)]:
            job.result()


def tighten(
    abstraction: Abstraction,
    node: str,
    indices: Tensor | None = None,
    deadline: Deadline = Deadline(),
    threads: int = 1,
) -> Bounds:
    """The bounds ``(1, *shape)`` of a pre-activation node, with some neurons' made tighter in the time there is.

    ``indices`` ``(m,)``: flat positions of the neurons, all unstable ones if not given. Every neuron has a tree for
    each side; the one that promises most for its time goes on, in units of the triangle's area: the area that its
    side can still gain, or the whole of it if the neuron may be stable. A neuron is left when its sign is decided.
    Sound whenever the deadline comes. Raises :class:`InputError` for a batch, or a region whose rows are not
    linear.
    """
    bounds = abstraction.bounds[node]
    if indices is None:
        indices = bounds.unstable[0].flatten().nonzero()[:, 0]
    if not len(indices) or deadline.passed:
        return bounds
    low, high = (side[0].flatten()[indices].tolist() for side in (bounds.lower, bounds.upper))
    relaxed = relax_network(abstraction, node=node)
    ahead = Objective.neurons(abstraction.network, node, indices)
    trees = [
        Tree(abstraction.network, relaxed, side.rows(i, i + 1), known, SIGN)
        for i in range(len(indices))
        for side, known in ((ahead, low[i]), (-ahead, -high[i]))
    ]

    def priority(position: int) -> float:
        tree, other = trees[position], trees[position ^ 1]
        if other.status is TreeStatus.PROVED:  # the sign is decided
            return -math.inf
        area, across = -tree.known * -other.known / 2, max(0.0, -other.lower)
        if not tree.solves:
            return 1e6 + area  # first all of them a little
        gain = area if tree.upper > 0 else max(0.0, tree.upper - tree.lower) * across / 2
        closed, left = max(0.0, tree.tree_bound - tree.root_bound), max(0.0, tree.upper - tree.tree_bound)
        rate = max(closed, _SLOWEST * left) / tree.solves
        return gain * rate / max(left, 1e-12)

    advance_all(trees, priority, deadline, threads)
    below, above = (torch.tensor([[t.lower for t in trees[side::2]]], dtype=torch.float64) for side in (0, 1))
    return bounds.tightened(indices, below, -above)


@dataclass(frozen=True, eq=False)
class MilpAbstraction(Abstraction):
    """A base abstraction of one region whose objectives are bounded by mixed-integer programs over its bounds.

    Exact for networks of affine operators and ReLUs, where there is time. ``threads``: trees that advance at once.
    """

    base: Abstraction = field(kw_only=True)
    threads: int = field(default=1, kw_only=True)
    _relaxed: dict[str, RelaxedNetwork] = field(default_factory=dict, kw_only=True)

    @classmethod
    def over(cls, base: Abstraction, threads: int = 1) -> MilpAbstraction:
        """Over another abstraction. Raises :class:`InputError` for fewer threads than one."""
        if threads < 1:
            raise InputError(f"threads: {threads} is not a number from 1 up")
        return cls(base.network, base.region, base.bounds, notes=base.notes, base=base, threads=threads)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """Certified bounds, never below the base's, within 1e-6 (relatively) of the minima where time allows."""
        known = self.base.minimise(objective, deadline)
        return _lower_bounds(self.search(objective, known.lower, MINIMUM, deadline), known)

    def prove(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        known = self.base.prove(objective, deadline)
        return _lower_bounds(self.search(objective, known.lower, CLAIM, deadline), known)

    def search(
        self,
        objective: Objective,
        known: Tensor | None = None,
        cutoffs: Cutoffs = CLAIM,
        deadline: Deadline = Deadline(),
    ) -> list[Tree]:
        """The tree of each row, as far as time went: its status, bounds, and the best input it came across.

        ``known`` ``(1, m)`` are sound lower bounds. Rows take turns; those near to their end are not waited for.
        """
        lower = [float("-inf")] * objective.count if known is None else known[0].tolist()
        if deadline.passed:
            return []
        relaxed = self._relaxation(objective.node)
        rows = [objective.rows(i, i + 1) for i in range(objective.count)]
        trees = [Tree(self.network, relaxed, row, each, cutoffs) for row, each in zip(rows, lower, strict=True)]
        advance_all(trees, lambda position: -float(trees[position].solves), deadline, self.threads)
        return trees

    def _relaxation(self, node: str) -> RelaxedNetwork:
        if node not in self._relaxed:
            self._relaxed[node] = relax_network(self.base, node=node)
        return self._relaxed[node]


def _lower_bounds(trees: list[Tree], known: LowerBounds) -> LowerBounds:
    """The better of the trees' bounds and the known ones, with notes about trees that did not come to an end."""
    if not trees:
        return known
    lower = torch.tensor([[tree.lower for tree in trees]], dtype=torch.float64).to(known.lower)
    late = sum(tree.status is TreeStatus.OPEN for tree in trees)
    said = (f"time is up: {late} mixed-integer programs not solved, their bounds so far are used",) if late else ()
    return known | LowerBounds(lower, (*trees[0].relaxed.notes, *said))
