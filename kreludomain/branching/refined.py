"""Branch and bound over the neurons of early layers, with the bounds of all layers made anew in every part.

To decide the sign of a neuron early in the network is to cut the region itself. With all inner bounds found again
under that constraint, one such split can be worth many that keep the bounds of the region. It takes seconds,
though, so what lacks little is left to branching with fixed bounds (:mod:`kreludomain.branching.neurons`). Which of
both is expected to end sooner is estimated from what they gained so far. Where few unstable neurons are left,
mixed-integer programs (:mod:`kreludomain.branching.milp`) find the minimum itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.bounding import KRelu
from kreludomain.bounding.dual import ComputeOptions, ConstrainedBounds, DualAbstraction, DualAscent, SplitDual
from kreludomain.branching.estimate import BranchingRate, Progress
from kreludomain.branching.milp import MilpAbstraction, TreeStatus
from kreludomain.branching.neurons import Branching, BranchingResult, Refute, branch_and_bound
from kreludomain.branching.open_set import OpenSet, Subproblem
from kreludomain.deadline import Deadline
from kreludomain.domain import Bounds, InfeasibleBoundsError
from kreludomain.programs.solvers import HIGHS
from kreludomain.property import Objective

#: Subproblems with fixed bounds in every part, from which the rate of that way is estimated.
_PROBE = 32
#: The factor on the scores of neurons one layer earlier: all layers behind them are bounded anew.
_EARLIER_FACTOR = 3.0
#: Up to so many unstable neurons, linear programs over their phases are solved at once.
_FEW_UNSTABLE = 32
#: How many times longer than expected branching with fixed bounds may take before a part is split after all.
_OVERRUN = 4.0


@dataclass(frozen=True, eq=False)
class _Part:
    """A half of a part of the region.

    ``above`` is the abstraction of the part that it is a half of, ``known`` are the bounds of its layers with the sign
    of one neuron decided. ``first`` is the bound of that part before any splits that keep bounds.
    """

    above: DualAbstraction
    known: Mapping[str, Bounds]
    first: float = -math.inf


@dataclass(frozen=True, eq=False)
class RefinedBranching:
    """``method`` bounds the layers of each part, in which ``branching`` with fixed bounds follows; ``compute`` is for
    its steps."""

    method: KRelu
    branching: Branching
    compute: ComputeOptions

    @torch.no_grad()
    def prove(
        self, clause: Objective, constrained: ConstrainedBounds, refute: Refute | None, deadline: Deadline
    ) -> RefinedBranchingResult:
        """Whether one of a clause's rows is positive all over the region, as far as it is found out by the deadline.

        ``constrained`` are the bounds where all of the rows fail; the row that is then nearest to a contradiction is
        branched on. Ends at a counterexample that ``refute`` confirms.
        """
        if constrained.abstraction is None:
            return RefinedBranchingResult(True, math.inf, None, "")
        clause = clause.pulled_back(constrained.abstraction.network)
        output_constraints = replace(clause, constant=clause.constant - constrained.at_most)
        best = int(constrained.lower.nan_to_num(-torch.inf).argmax())
        whole = _Part(constrained.abstraction, {})
        search = _PartSearch(self, output_constraints, clause.rows(best, best + 1), whole, refute, deadline)
        search.begin(float(constrained.lower[best]))
        while search.open.waiting and search.counterexample is None and not deadline.passed:
            search.advance()
        said = (
            f"branch and bound: {search.bounded} parts bounded anew, {search.subproblems} subproblems, "
            f"{search.open.waiting} parts open"
        )
        (lower,) = search.open.lower()
        return RefinedBranchingResult(lower > 0, lower, search.counterexample, said)


@dataclass(frozen=True, eq=False)
class RefinedBranchingResult:
    """Whether the clause is proved, the bound of the row that was branched on where all rows are assumed to fail, a
    counterexample if one was found, and a note that says how many parts there were."""

    proved: bool
    lower: float
    counterexample: Tensor | None
    note: str


class _PartSearch:
    """The state of a search: the parts that are open, depth first, and the rates of both ways of branching."""

    def __init__(
        self,
        options: RefinedBranching,
        output_constraints: Objective,
        row: Objective,
        whole: _Part,
        refute: Refute | None,
        deadline: Deadline,
    ) -> None:
        self.options, self.output_constraints, self.row = options, output_constraints, row
        self.refute, self.deadline = refute, deadline
        self.open = OpenSet([whole], best_first=False)
        self.counterexample: Tensor | None = None
        self.bounded = self.subproblems = 0
        self.fixed_rate, self.refined_rate = BranchingRate(), BranchingRate()

    def begin(self, lower: float) -> None:
        """Bounds the row over the whole region, where its bound is ``lower`` already."""
        (root,) = self.open.roots
        self.open.replace(root, [(lower, root.item)])
        (root,) = self.open.take()
        self._bound(root, root.item.above, -math.inf)

    def advance(self) -> None:
        """Bounds all layers anew in the next part, and the row there."""
        (subproblem,), start = self.open.take(), time.monotonic()
        part = subproblem.item
        try:
            here = self.options.method.refine_pass(part.above, self.output_constraints, self.deadline, part.known)
        except InfeasibleBoundsError:  # no inputs there
            self.open.replace(subproblem, [], [math.inf])
            return
        if self.deadline.passed:
            self.open.put_back(subproblem)
            return
        self.bounded += 1
        self._bound(subproblem, here, part.first, time.monotonic() - start)

    def _bound(
        self, subproblem: Subproblem[_Part], here: DualAbstraction, first: float, seconds: float = math.nan
    ) -> None:
        """Bounds the row in a part; if it is open, it is branched on with fixed bounds, or the part is split.

        ``seconds``: how long it took to bound the part anew.
        """
        found = self._branched(here, first, seconds)
        lower, self.counterexample = max(float(found.lower[0]), subproblem.bound), found.counterexample
        halves = list[_Part]()
        if not lower > 0 and self.counterexample is None:
            ended = False
            if self._few_unstable(here):
                lower, ended = self._solved(here, lower)
            if not (lower > 0 or ended):
                halves = self._split(here, found.scores, float(found.first[0]))
        if halves:
            self.open.replace(subproblem, [(lower, half) for half in halves])
        elif lower > 0:
            self.open.replace(subproblem, [], [lower])
        else:
            self.open.keep(subproblem, lower)

    def _few_unstable(self, here: DualAbstraction) -> bool:
        """Whether mixed-integer programs can be expected to end; they take ReLUs and regions with linear rows."""
        below = here.network.ancestors(self.row.node)
        activations = [node for node in below if node in here.network.activations]
        unstable = sum(int(here.bounds[node.inputs[0]].unstable.sum()) for node in activations)
        relus = all(node.is_relu for node in activations)
        if not relus or unstable > _FEW_UNSTABLE:
            return False
        rows = here.region.program_rows()
        return rows is not None and HIGHS.takes(rows)

    def _solved(self, here: DualAbstraction, lower: float) -> tuple[float, bool]:
        """The bound of the row in a part, raised to its minimum if time allows, and whether it was: then there is
        nothing to gain by splits."""
        trees = MilpAbstraction.over(here).search(
            self.row, torch.tensor([[lower]], dtype=torch.float64), deadline=self.deadline
        )
        for tree in trees:  # none at the deadline
            if tree.point is not None and tree.upper <= 0 and self.refute is not None:
                self.counterexample = self.refute(tree.point)
            return max(lower, tree.lower), tree.status is not TreeStatus.OPEN
        return lower, False

    def _branched(self, here: DualAbstraction, first: float, seconds: float) -> BranchingResult:
        """The row in a part with fixed bounds: to the end where that is expected to be quicker than splits are."""
        dual = SplitDual.of(here.problem(self.row.node), self.options.compute)
        start = time.monotonic()
        after_first, limit = start, 0.0

        def going(progress: Progress) -> bool:
            nonlocal after_first, limit
            if progress.bounded == 1:
                after_first = time.monotonic()
                if not math.isnan(seconds):
                    self.refined_rate.update(seconds + after_first - start, progress.first - first)
                limit = self._limit(-progress.first)
            return progress.bounded < limit

        steps = DualAscent(self.options.method.steps or 0)
        found = branch_and_bound(dual, self.row, self.options.branching, steps, self.refute, self.deadline, going)
        self.subproblems += found.bounded
        if found.bounded > 1:
            progress = Progress(1, float(found.first[0]), float(found.lower[0]), found.bounded - 1)
            self.fixed_rate.update((time.monotonic() - after_first) / progress.bounded, progress.gain)
        return found

    def _limit(self, lacking: float) -> float:
        """How many subproblems with fixed bounds a part may take that lacks so much."""
        if math.isnan(self.fixed_rate.gain) or math.isnan(self.refined_rate.gain):
            return _PROBE
        expected = self.fixed_rate.expected(lacking)
        if expected > self.refined_rate.expected(lacking):
            return _PROBE
        result: float = max(_PROBE, _OVERRUN * 2.0 ** min(expected, 60.0) / self.fixed_rate.seconds)
        return result

    def _split(self, here: DualAbstraction, neuron_scores: Tensor, first: float) -> list[_Part]:
        """The halves of a part by the neuron of the largest score, earlier layers preferred; none if none has one."""
        relaxations = here.problem(self.row.node).relaxations
        best, chosen, start = 0.0, None, 0
        for later, (name, relaxation) in zip(reversed(range(len(relaxations))), relaxations.items(), strict=True):
            activation = here.network[name]
            source, scores = activation.inputs[0], neuron_scores[start : start + relaxation.size]
            start += relaxation.size
            scores = torch.where(here.bounds[source].unstable.flatten(), scores, 0.0) * _EARLIER_FACTOR**later
            if activation.is_relu and float(scores.max()) > best:
                best, chosen = float(scores.max()), (source, scores.argmax())
        if chosen is None:
            return []
        source, neuron = chosen
        halves = (_decided(here.bounds[source], neuron, side) for side in (-1, 1))
        return [_Part(here, {**here.bounds, source: half}, first) for half in halves]


def _decided(bounds: Bounds, neuron: Tensor, side: int) -> Bounds:
    """The bounds with one neuron's sign decided."""
    # Contiguous, whatever memory format a convolution left them in: the view has to be one.
    lower, upper = (v.clone(memory_format=torch.contiguous_format) for v in (bounds.lower, bounds.upper))
    (lower if side > 0 else upper).view(-1)[neuron] = 0.0
    return Bounds(lower, upper)
