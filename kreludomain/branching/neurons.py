"""Branch and bound over the signs of neurons, with the k-ReLU dual inside.

A subproblem is one row of a claim over the part of the region where some neurons' signs are decided. It starts from
the multipliers of the one that it is part of, so its bound is never worse, and a few steps are enough to see whether
it is proved. Subproblems are worked on in batches, the least bound first; the relaxation of the region is made once.

Bunel, Lu, Turkaslan, Torr, Kohli, Kumar, "Branch and bound for piecewise linear neural network verification" (JMLR
2020); Wang et al., "Beta-CROWN" (NeurIPS 2021).
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.bounding.dual import DualAscent, Multipliers, SplitDual
from kreludomain.branching.estimate import Progress
from kreludomain.branching.open_set import OpenSet, Subproblem
from kreludomain.branching.rules import BranchingRule, SplitCandidates, make_rule, masked_scores
from kreludomain.branching.spill import SpillStore
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.options import Options
from kreludomain.property import Objective

#: Inputs ``(n, *input_shape)`` to a confirmed counterexample among them, ``(1, *input_shape)``, or ``None``.
Refute = Callable[[Tensor], Tensor | None]

#: The first steps of a child, at a fifth of the temperature that is best from DeepPoly's slopes: a third of the step
#: size that is best there for fully connected networks; convolutions gain 15 % more with larger ones. Both are tried.
STEP_SIZES, TEMPERATURE = (0.1, 0.25), 0.06
#: Steps where nothing is left to split, so that the bound has to come to its end.
_LAST_STEPS = 400


@dataclass(frozen=True)
class Branching(Options):
    """``batch`` subproblems are split at once, in two each, and ``steps`` made on their halves.

    More steps make fewer subproblems. ``rule``: which neuron is split, ``babsr``, ``intercept``, or a
    :class:`BranchingRule`. Subproblems that wait take at most ``memory_mb`` of memory, further ones a temporary file.
    """

    batch: int = 32
    steps: int = 30
    rule: str | BranchingRule = "babsr"
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("batch", 1), ("steps", 0), ("memory_mb", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: {getattr(self, name)} is not a number from {least} up")
        make_rule(self.rule)  # raises for an unknown name


@dataclass(frozen=True, eq=False)
class BranchingResult:
    """Sound lower bounds of the rows ``(m,)`` over the whole region; a counterexample, if one was found; how many
    subproblems were bounded, and how many are open. ``first`` ``(m,)`` are the bounds before any split, and ``scores``
    ``(N,)`` those of each neuron then, summed over the rows that were open."""

    lower: Tensor
    counterexample: Tensor | None
    bounded: int
    open: int
    first: Tensor
    scores: Tensor


@torch.no_grad()
def branch_and_bound(
    dual: SplitDual,
    objective: Objective,
    options: Branching = Branching(),
    root: DualAscent = DualAscent(200),
    refute: Refute | None = None,
    deadline: Deadline = Deadline(),
    going: Callable[[Progress], bool] = lambda progress: True,
) -> BranchingResult:
    """Whether all of the objectives are positive over the region, as far as it is found out by the deadline.

    Ends at the first counterexample that ``refute`` confirms. ``going``: whether it is worth going on; asked before
    the first split and after every batch of them.
    """
    search = _NeuronSearch(dual, objective, options, deadline)
    scores, counterexample = search.begin(root), None
    first = search.lower()
    least = float(first.min())
    while search.open.waiting and not deadline.passed and counterexample is None:
        if not going(Progress(objective.count, least, search.open.least, search.bounded)):
            break
        counterexample = search.advance(refute)
    return BranchingResult(search.lower(), counterexample, search.bounded, len(search.open), first, scores)


class _NeuronSearch:
    """The state of a search. Signs and multipliers of open subproblems are in a store; their items are places there."""

    def __init__(self, dual: SplitDual, objective: Objective, options: Branching, deadline: Deadline) -> None:
        self.dual, self.objective, self.options, self.deadline = dual, objective, options, deadline
        self.rule = make_rule(options.rule)
        slots = dual.exact.slots
        self.store = SpillStore(
            {
                "signs": ((dual.neurons,), torch.int8),
                "allocation": ((slots,), torch.float32),
                "slope": ((slots,), torch.float32),
            },
            options.memory_mb,
        )
        self.open = OpenSet([-1] * objective.count)
        self.bounded = 0
        self.step_sizes: tuple[float, ...] = STEP_SIZES  # until the first split has told which is better

    def begin(self, ascent: DualAscent) -> Tensor:
        """Bounds the rows over the whole region; the scores of each neuron there, ``(N,)``."""
        rows = torch.arange(self.objective.count)
        signs = torch.zeros(self.dual.neurons, len(rows), dtype=torch.int8)
        lower, proofs = self.dual.solve(self.objective, signs, ascent, None, _positive, self.deadline)
        self._replace(self.open.roots, lower, signs, proofs)
        open_ = (~(lower > 0)).nonzero()[:, 0]
        if not len(open_):
            return torch.zeros(self.dual.neurons, dtype=torch.float32)
        candidates = SplitCandidates(
            self.dual, self.objective.select(open_), signs[:, open_], proofs.rows(open_), lower[open_]
        )
        return masked_scores(self.rule, candidates).sum(1)

    def advance(self, refute: Refute | None) -> Tensor | None:
        """Splits the subproblems with the least bounds; a counterexample, if one shows on the way."""
        taken = self.open.take(self.options.batch)
        values = self.store.take([each.item for each in taken])
        signs, start = values["signs"].T, _multipliers(values)
        rows = torch.tensor([each.row for each in taken], dtype=torch.int64)
        bounds = torch.tensor([each.bound for each in taken], dtype=torch.float64)
        candidates = SplitCandidates(self.dual, self.objective.select(rows), signs, start, bounds)
        scores = masked_scores(self.rule, candidates)
        found = None if refute is None else refute(candidates.minimisers)
        if found is not None:
            return found
        best, neuron = scores.max(0)
        splits = best > 0
        for chosen, steps, sides in ((splits, self.options.steps, (1, -1)), (~splits, _LAST_STEPS, (0,))):
            here = chosen.nonzero()[:, 0]
            if not len(here):
                continue
            parts = [signs[:, here].clone() for _ in sides]
            for part, side in zip(parts, sides, strict=True):
                if side:
                    part[neuron[here], torch.arange(len(here))] = side
            again, parts_signs = here.repeat(len(sides)), torch.cat(parts, dim=1)
            best_size, lower, proofs = self._solve(parts_signs, rows[again], start.rows(again), steps)
            subproblems = [taken[i] for i in here.tolist()]
            if len(sides) > 1:
                self.step_sizes = (best_size,)
                self._replace(subproblems, lower, parts_signs, proofs)
            else:
                self._end(subproblems, lower)
        return None

    def _solve(self, signs: Tensor, rows: Tensor, start: Multipliers, steps: int) -> tuple[float, Tensor, Multipliers]:
        """The step size that came to the best bounds, these bounds and what proves them."""
        objective, tried = self.objective.select(rows), dict[float, tuple[Tensor, Multipliers]]()
        for size in self.step_sizes:
            ascent = DualAscent(steps, size, TEMPERATURE)
            tried[size] = self.dual.solve(objective, signs, ascent, start, _positive, self.deadline)
        best = max(tried, key=lambda size: float(tried[size][0].clamp(max=0).sum()))
        return best, *tried[best]

    def _replace(
        self, subproblems: Sequence[Subproblem[int]], lower: Tensor, signs: Tensor, proofs: Multipliers
    ) -> None:
        """Replaces subproblems by their parts, in turns: columns ``i``, ``i + n``, ... are those of the ``i``-th of n.

        A part whose bound is positive is proved, any other waits.
        """
        self.bounded += len(lower)
        parents = torch.tensor([each.bound for each in subproblems], dtype=torch.float64)
        lower = torch.fmax(lower.cpu(), parents.repeat(len(lower) // len(subproblems)))
        open_ = (~(lower > 0)).nonzero()[:, 0]
        values = {"signs": signs.T, "allocation": proofs.allocation.T, "slope": proofs.slope.T}
        stored = self.store.put({name: value[open_].cpu() for name, value in values.items()})
        places, bounds = dict(zip(open_.tolist(), stored, strict=True)), lower.tolist()
        for i, subproblem in enumerate(subproblems):
            columns = range(i, len(bounds), len(subproblems))
            self.open.replace(
                subproblem,
                [(bounds[column], places[column]) for column in columns if column in places],
                [bounds[column] for column in columns if column not in places],
            )

    def _end(self, subproblems: Sequence[Subproblem[int]], lower: Tensor) -> None:
        """Subproblems with nothing left to split are proved, or stay open for good."""
        self.bounded += len(lower)
        for subproblem, bound in zip(subproblems, lower.tolist(), strict=True):
            if bound > 0:
                self.open.replace(subproblem, [], [bound])
            else:
                self.open.keep(subproblem, bound)

    def lower(self) -> Tensor:
        """The certified bound of each row, ``(m,)``."""
        return torch.tensor(self.open.lower(), dtype=torch.float64)


def _multipliers(values: Mapping[str, Tensor]) -> Multipliers:
    allocation, slope = values["allocation"].T, values["slope"].T
    return Multipliers(allocation, slope, allocation.new_zeros(0, allocation.shape[1]))


def _positive(bounds: Tensor) -> Tensor:
    return bounds > 0
