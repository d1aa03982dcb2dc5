"""Branch and bound over the neurons of early layers, with the bounds of all layers made anew in every part.

To decide the sign of a neuron early in the network is to cut the region itself. With all inner bounds found again
under that constraint, one such split can be worth many that keep the bounds of the region. It takes seconds,
though, so what lacks little is left to branching with fixed bounds (:mod:`kreludomain.branching.neurons`). Which of
both is expected to end sooner is estimated from what they gained so far. Where few unstable neurons are left,
mixed-integer programs (:mod:`kreludomain.bounding.milp`) find the minimum itself.
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
from kreludomain.bounding.milp import MilpAbstraction, TreeStatus
from kreludomain.branching.neurons import Branching, Progress, Refute, Searched, branch_and_bound
from kreludomain.deadline import Deadline
from kreludomain.domain import Bounds, InfeasibleBoundsError
from kreludomain.programs.solvers import HIGHS
from kreludomain.property import Objective

#: Subproblems with fixed bounds by which it is seen what they gain, in every part.
_PROBE = 32
#: How much more a split promises that is one layer earlier: all layers behind it are bounded anew.
_EARLIER = 3.0
#: Up to so many unstable neurons, linear programs over their phases are solved at once.
_FEW = 32
#: How many times longer than expected branching with fixed bounds may take before a part is split after all.
_TRUST = 4.0


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of the region, of which ``above`` is an abstraction but for the split that ``known`` bounds have, and a
    bound of the row there. ``first`` is the bound of the part that this is a half of, before any splits that keep
    bounds."""

    above: DualAbstraction
    known: Mapping[str, Bounds]
    lower: float
    first: float = -math.inf


@dataclass
class _Way:
    """One way of branching: the seconds a step of it takes, and what a level of its tree gains, as seen so far."""

    seconds: float = math.nan
    gain: float = math.nan

    def saw(self, seconds: float, gain: float) -> None:
        """The mean of what was seen, the latest counting for half."""
        for name, value in (("seconds", seconds), ("gain", max(gain, 1e-9))):
            known = getattr(self, name)
            setattr(self, name, value if math.isnan(known) else (known + value) / 2)

    def expected(self, lacking: float) -> float:
        """The binary logarithm of the seconds it takes to close what lacks that much: a tree doubles with each
        level."""
        return lacking / self.gain + math.log2(self.seconds)


@dataclass(frozen=True, eq=False)
class RefinedBranching:
    """``method`` bounds the parts; what is left of one goes to ``branching``, on ``compute``."""

    method: KRelu
    branching: Branching
    compute: ComputeOptions

    @torch.no_grad()
    def prove(
        self, clause: Objective, assumed: ConstrainedBounds, refute: Refute | None, deadline: Deadline
    ) -> Branched:
        """Whether one of a clause's rows is positive all over the region, as far as it is found out by the deadline.

        ``assumed`` is what came of assuming that all of them fail; the row that is then nearest to a contradiction is
        branched on. Ends at a counterexample that ``refute`` confirms.
        """
        if assumed.abstraction is None:
            return Branched(True, math.inf, None, "")
        clause = clause.pulled_back(assumed.abstraction.network)
        output_constraints = replace(clause, constant=clause.constant - assumed.at_most)
        best = int(assumed.lower.nan_to_num(-torch.inf).argmax())
        search = _Search(self, output_constraints, clause.rows(best, best + 1), refute, deadline)
        search.look(assumed.abstraction, _Part(assumed.abstraction, {}, float(assumed.lower[best])))
        while search.parts and search.counterexample is None and not deadline.passed:
            search.advance()
        said = (
            f"branch and bound: {search.bounded} parts bounded anew, {search.subproblems} subproblems, "
            f"{len(search.parts)} parts open"
        )
        lower = search.lower()
        return Branched(lower > 0, lower, search.counterexample, said)


@dataclass(frozen=True, eq=False)
class Branched:
    """Whether the clause is proved, the bound of the row that was branched on where all rows are assumed to fail, a
    counterexample if one was found, and what was done in words."""

    proved: bool
    lower: float
    counterexample: Tensor | None
    note: str


class _Search:
    """The open parts, depth first, and what is known of those that are closed."""

    def __init__(
        self,
        options: RefinedBranching,
        output_constraints: Objective,
        row: Objective,
        refute: Refute | None,
        deadline: Deadline,
    ) -> None:
        self.options, self.output_constraints, self.row = options, output_constraints, row
        self.refute, self.deadline = refute, deadline
        self.parts: list[_Part] = []
        self.ended = math.inf
        self.counterexample: Tensor | None = None
        self.bounded = self.subproblems = 0
        self.fixed, self.anew = _Way(), _Way()

    def lower(self) -> float:
        """The row's bound where the output_constraints holds."""
        return min([self.ended, *(part.lower for part in self.parts)])

    def advance(self) -> None:
        """Bounds the next part anew and looks into it."""
        part, start = self.parts[-1], time.monotonic()
        try:
            here = self.options.method.refine_pass(part.above, self.output_constraints, self.deadline, part.known)
        except InfeasibleBoundsError:  # no inputs there
            self.parts.pop()
            return
        if self.deadline.passed:
            return
        self.bounded += 1
        self.parts.pop()
        self.look(here, part, time.monotonic() - start)

    def look(self, here: DualAbstraction, part: _Part, seconds: float = math.nan) -> None:
        """Bounds the row in a part; if it is open, it is branched on with fixed bounds, or the part is split.

        ``seconds``: how long it took to bound the part anew.
        """
        found = self._branched(here, part, seconds)
        lower, self.counterexample = max(float(found.lower[0]), part.lower), found.counterexample
        halves = list[_Part]()
        if not lower > 0 and self.counterexample is None:
            ended = False
            if self._few_unstable(here):
                lower, ended = self._solved(here, lower)
            if not (lower > 0 or ended):
                halves = self._split(here, found.promise, lower, float(found.first[0]))
        if halves:
            self.parts += halves
        else:
            self.ended = min(self.ended, lower)

    def _few_unstable(self, here: DualAbstraction) -> bool:
        """Whether mixed-integer programs can be expected to end; they take ReLUs and regions with linear rows."""
        below = here.network.ancestors(self.row.node)
        activations = [node for node in below if node in here.network.activations]
        unstable = sum(int(here.bounds[node.inputs[0]].unstable.sum()) for node in activations)
        relus = all(node.is_relu for node in activations)
        if not relus or unstable > _FEW:
            return False
        rows = here.region.program_rows()
        return rows is not None and HIGHS.takes(rows)

    def _solved(self, here: DualAbstraction, lower: float) -> tuple[float, bool]:
        """The bound of the row in a part, raised to its minimum, unless time is short, and whether it was not: there is
        nothing to gain by splits then."""
        trees = MilpAbstraction.over(here).search(self.row, torch.tensor([[lower]]).double(), deadline=self.deadline)
        for tree in trees:  # none at the deadline
            if tree.point is not None and tree.upper <= 0 and self.refute is not None:
                self.counterexample = self.refute(tree.point)
            return max(lower, tree.lower), tree.status is not TreeStatus.OPEN
        return lower, False

    def _branched(self, here: DualAbstraction, part: _Part, seconds: float) -> Searched:
        """The row in a part with fixed bounds: to the end where that is expected to be quicker than splits are."""
        dual = SplitDual.of(here.problem(self.row.node), self.options.compute)
        start = time.monotonic()
        after_first, limit = start, 0.0

        def going(progress: Progress) -> bool:
            nonlocal after_first, limit
            if progress.bounded == 1:
                after_first = time.monotonic()
                if not math.isnan(seconds):
                    self.anew.saw(seconds + after_first - start, progress.first - part.first)
                limit = self._limit(-progress.first)
            return progress.bounded < limit

        steps = DualAscent(self.options.method.steps or 0)
        found = branch_and_bound(dual, self.row, self.options.branching, steps, self.refute, self.deadline, going)
        self.subproblems += found.bounded
        if found.bounded > 1:
            progress = Progress(1, float(found.first[0]), float(found.lower[0]), found.bounded - 1)
            self.fixed.saw((time.monotonic() - after_first) / progress.bounded, progress.gain)
        return found

    def _limit(self, lacking: float) -> float:
        """How many subproblems with fixed bounds a part may take that lacks so much."""
        if math.isnan(self.fixed.gain) or math.isnan(self.anew.gain):
            return _PROBE
        expected = self.fixed.expected(lacking)
        if expected > self.anew.expected(lacking):
            return _PROBE
        return max(_PROBE, _TRUST * 2.0 ** min(expected, 60.0) / self.fixed.seconds)

    def _split(self, here: DualAbstraction, promise: Tensor, lower: float, before: float) -> list[_Part]:
        """The halves of a part that deciding a neuron makes: the most promising one, earlier layers preferred."""
        relaxations = here.problem(self.row.node).relaxations
        best, chosen, first = 0.0, None, 0
        for later, (name, relaxation) in zip(reversed(range(len(relaxations))), relaxations.items(), strict=True):
            activation = here.network[name]
            source, scores = activation.inputs[0], promise[first : first + relaxation.size]
            first += relaxation.size
            scores = torch.where(here.bounds[source].unstable.flatten(), scores, 0.0) * _EARLIER**later
            if activation.is_relu and float(scores.max()) > best:
                best, chosen = float(scores.max()), (source, scores.argmax())
        if chosen is None:
            return []
        source, neuron = chosen
        halves = (_decided(here.bounds[source], neuron, side) for side in (-1, 1))
        return [_Part(here, {**here.bounds, source: half}, lower, before) for half in halves]


def _decided(bounds: Bounds, neuron: Tensor, side: int) -> Bounds:
    """The bounds with one neuron's sign decided."""
    # Contiguous, whatever memory format a convolution left them in: the view has to be one.
    lower, upper = (v.clone(memory_format=torch.contiguous_format) for v in (bounds.lower, bounds.upper))
    (lower if side > 0 else upper).view(-1)[neuron] = 0.0
    return Bounds(lower, upper)
