"""Branch and bound over the signs of neurons, with the k-ReLU dual inside.

A subproblem is one row of a claim over the part of the region where some neurons' signs are decided. It starts from
the multipliers of the one that it is part of, so its bound is never worse, and a few steps are enough to see whether
it is proved. Subproblems are worked on in batches, the least bound first; the relaxation of the region is made once.

Bunel, Lu, Turkaslan, Torr, Kohli, Kumar, "Branch and bound for piecewise linear neural network verification" (JMLR
2020); Wang et al., "Beta-CROWN" (NeurIPS 2021).
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.bounding.dual import DualAscent, Multipliers, SplitDual
from kreludomain.branching.spill import SpillStore
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.options import Options
from kreludomain.property import Objective

#: Inputs ``(n, *input_shape)`` to a confirmed counterexample near one of them, ``(1, *input_shape)``, or ``None``.
Refute = Callable[[Tensor], Tensor | None]

#: The first steps of a child, at a fifth of the temperature that is best from DeepPoly's slopes: a third of the step
#: size that is best there for fully connected networks; convolutions gain 15 % more with larger ones. Both are tried.
STEP_SIZES, TEMPERATURE = (0.1, 0.25), 0.06
#: Steps where all signs are decided: there is nothing left to branch on, so the bound has to come to its end.
_LAST_STEPS = 400


@dataclass(frozen=True)
class Branching(Options):
    """``batch`` subproblems are split at once, in two each, and ``steps`` made on their halves.

    More steps make fewer subproblems. Subproblems that wait take at most ``memory_mb`` of memory, further ones a
    temporary file.
    """

    batch: int = 32
    steps: int = 30
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("batch", 1), ("steps", 0), ("memory_mb", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: {getattr(self, name)} is not a number from {least} up")


@dataclass(frozen=True)
class Progress:
    """Of a search: how many ``rows`` it is for, the least bound of all before any split, the least now, and how many
    subproblems were bounded."""

    rows: int
    first: float
    worst: float
    bounded: int

    @property
    def gain(self) -> float:
        """What a level of the rows' trees gained so far; trees double with each level."""
        return (min(0.0, self.worst) - self.first) / max(1.0, math.log2(self.bounded / self.rows + 1))


@dataclass(frozen=True, eq=False)
class Searched:
    """What came of it: sound lower bounds of the rows ``(m,)``, over the whole region; a counterexample, if one was
    found; how many subproblems were bounded, and how many are open. ``first`` ``(m,)`` are the bounds before any split,
    and ``promise`` ``(N,)`` what splitting each neuron promised then, added up over the rows."""

    lower: Tensor
    counterexample: Tensor | None
    bounded: int
    open: int
    first: Tensor
    promise: Tensor


@torch.no_grad()
def branch_and_bound(
    dual: SplitDual,
    objective: Objective,
    options: Branching = Branching(),
    root: DualAscent = DualAscent(200),
    refute: Refute | None = None,
    deadline: Deadline = Deadline(),
    going: Callable[[Progress], bool] = lambda progress: True,
) -> Searched:
    """Whether all of the objectives are positive over the region, as far as it is found out by the deadline.

    Ends at the first counterexample that ``refute`` confirms. ``going``: whether it is worth going on; asked before
    the first split and after every batch of them.
    """
    search = _Search(dual, objective, options, deadline)
    promise, counterexample = search.begin(root), None
    first = search.lower()
    least = float(first.min())
    while search.waiting and not deadline.passed and counterexample is None:
        if not going(Progress(objective.count, least, search.worst(), search.bounded)):
            break
        counterexample = search.advance(refute)
    open_ = len(search.waiting) + len(search.stuck)
    return Searched(search.lower(), counterexample, search.bounded, open_, first, promise)


class _Search:
    """The open subproblems: ``waiting`` is a heap of (bound, place in the store, row)."""

    def __init__(self, dual: SplitDual, objective: Objective, options: Branching, deadline: Deadline) -> None:
        self.dual, self.objective, self.options, self.deadline = dual, objective, options, deadline
        slots = dual.exact.slots
        self.store = SpillStore(
            {
                "signs": ((dual.neurons,), torch.int8),
                "allocation": ((slots,), torch.float32),
                "slope": ((slots,), torch.float32),
            },
            options.memory_mb,
        )
        self.waiting: list[tuple[float, int, int]] = []
        self.stuck: list[tuple[float, int]] = []
        self.closed = torch.full((objective.count,), torch.inf, dtype=torch.float64)
        self.bounded = 0
        self.step_sizes: tuple[float, ...] = STEP_SIZES  # until the first split has told which is better

    def begin(self, ascent: DualAscent) -> Tensor:
        """Bounds the rows over the whole region; what splitting promises each neuron, ``(N,)``."""
        rows = torch.arange(self.objective.count)
        signs = torch.zeros(self.dual.neurons, len(rows), dtype=torch.int8)
        lower, proofs = self.dual.solve(self.objective, signs, ascent, None, _positive, self.deadline)
        self._keep(lower, rows, signs, proofs)
        open_ = (~(lower > 0)).nonzero()[:, 0]
        scores, _ = self.dual.branching_scores(self.objective.select(open_), signs[:, open_], proofs.rows(open_))
        return scores.sum(1)

    def advance(self, refute: Refute | None) -> Tensor | None:
        """Splits the subproblems with the least bounds; a counterexample, if one shows on the way."""
        taken = [heapq.heappop(self.waiting) for _ in range(min(self.options.batch, len(self.waiting)))]
        values = self.store.take([place for _, place, _ in taken])
        signs, start = values["signs"].T, _multipliers(values)
        rows = torch.tensor([row for _, _, row in taken])
        bounds = torch.tensor([bound for bound, _, _ in taken], dtype=torch.float64)
        scores, points = self.dual.branching_scores(self.objective.select(rows), signs, start)
        if refute is not None:
            found = refute(points)
            if found is not None:
                self._put_back(bounds, rows)
                return found
        best, neuron = scores.max(0)
        splits = best > 0  # all others are kept, NaN too: what is in neither part would count as proved
        for chosen, steps, sides in ((splits, self.options.steps, (1, -1)), (~splits, _LAST_STEPS, (0,))):
            here = chosen.nonzero()[:, 0]
            if not len(here):
                continue
            parts = [signs[:, here].clone() for _ in sides]
            for part, side in zip(parts, sides, strict=True):
                if side:
                    part[neuron[here], torch.arange(len(here))] = side
            again = here.repeat(len(sides))
            self._bound(torch.cat(parts, dim=1), rows[again], start.rows(again), bounds[again], steps, bool(sides[0]))
        return None

    def _bound(
        self, signs: Tensor, rows: Tensor, start: Multipliers, known: Tensor, steps: int, splittable: bool
    ) -> None:
        objective, tried = self.objective.select(rows), dict[float, tuple[Tensor, Multipliers]]()
        for size in self.step_sizes:
            ascent = DualAscent(steps, size, TEMPERATURE)
            tried[size] = self.dual.solve(objective, signs, ascent, start, _positive, self.deadline)
        best = max(tried, key=lambda size: float(tried[size][0].clamp(max=0).sum()))
        if splittable:
            self.step_sizes = (best,)
        lower, proofs = tried[best]
        self._keep(torch.fmax(lower.cpu(), known), rows, signs, proofs, splittable)

    def _keep(self, lower: Tensor, rows: Tensor, signs: Tensor, proofs: Multipliers, splittable: bool = True) -> None:
        """What is proved is closed; what is not waits, unless there is nothing left to split."""
        self.bounded += len(rows)
        proved = lower > 0
        self.closed.scatter_reduce_(0, rows[proved], lower[proved], "amin")
        open_ = (~proved).nonzero()[:, 0]
        if not splittable:
            self.stuck += [(float(lower[i]), int(rows[i])) for i in open_]
            return
        values = {"signs": signs.T, "allocation": proofs.allocation.T, "slope": proofs.slope.T}
        places = self.store.put({name: value[open_].cpu() for name, value in values.items()})
        for i, place in zip(open_.tolist(), places, strict=True):
            heapq.heappush(self.waiting, (float(lower[i]), place, int(rows[i])))

    def _put_back(self, bounds: Tensor, rows: Tensor) -> None:
        self.stuck += list(zip(bounds.tolist(), rows.tolist(), strict=True))

    def worst(self) -> float:
        """The least bound of all that is open."""
        return min([bound for bound, *_ in (*self.waiting[:1], *self.stuck)], default=math.inf)

    def lower(self) -> Tensor:
        """The least bound of each row's parts, ``(m,)``."""
        lower = self.closed.clone()
        for bound, row in [(bound, row) for bound, _, row in self.waiting] + self.stuck:
            lower[row] = min(float(lower[row]), bound)
        return lower


def _multipliers(values: Mapping[str, Tensor]) -> Multipliers:
    allocation, slope = values["allocation"].T, values["slope"].T
    return Multipliers(allocation, slope, allocation.new_zeros(0, allocation.shape[1]))


def _positive(bounds: Tensor) -> Tensor:
    return bounds > 0
