"""Branch and bound over the neurons of early layers, with the bounds of all layers made anew in every part.

To decide the sign of a neuron early in the network is to cut the region itself. With all inner bounds found again
under that constraint, one such split can be worth thousands that keep the bounds of the region. It takes seconds,
though, so what lacks little is left to branching with fixed bounds (:mod:`kreludomain.verify.branch`). Which of both is
expected to end sooner is estimated from what they gained so far. Where few unstable neurons are left, mixed-integer
programs (:mod:`kreludomain.refine.milp`) find the minimum itself.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import Bounds, ContradictionError
from kreludomain.network.operators import Relu
from kreludomain.refine import KRelu
from kreludomain.refine.dual import Ascent, DualAbstraction, Machine, SplitDual
from kreludomain.refine.milp import MilpAbstraction, Status
from kreludomain.spec import Box, L1Ball, Objective
from kreludomain.verify.branch import Branched, Branching, Refute, branch_and_bound

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
    """A part of the region: bounds of the nodes, splits included, and the rows that are open with their bounds.

    ``first`` is the least bound of the part that this is a half of, before any splits that keep bounds.
    """

    known: Mapping[str, Bounds]
    rows: Tensor
    lower: Tensor
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
class Rebounding:
    """``method`` bounds the parts; what is left of one goes to ``branching``, on ``machine``."""

    method: KRelu
    branching: Branching
    machine: Machine

    @torch.no_grad()
    def prove(
        self, root: DualAbstraction, objective: Objective, refute: Refute | None, deadline: Deadline
    ) -> tuple[Tensor, Tensor | None, str]:
        """Sound bounds of the objectives ``(m,)``, a counterexample if one was found, and what was done in words.

        Ends when all are positive, at a counterexample, or at the deadline.
        """
        search = _Search(self, root, objective, refute, deadline)
        search.look(root, _Part({}, torch.arange(objective.count), torch.full((objective.count,), -math.inf).double()))
        while search.parts and search.counterexample is None and not deadline.passed:
            search.advance()
        said = (
            f"branch and bound: {search.bounded} parts bounded anew, {search.subproblems} subproblems, "
            f"{len(search.parts)} parts open"
        )
        return search.lower(), search.counterexample, said


class _Search:
    """The open parts, depth first, and what is known of those that are closed."""

    def __init__(
        self,
        options: Rebounding,
        root: DualAbstraction,
        objective: Objective,
        refute: Refute | None,
        deadline: Deadline,
    ) -> None:
        self.options, self.root, self.objective = options, root, objective
        self.refute, self.deadline = refute, deadline
        self.parts: list[_Part] = []
        self.ended = torch.full((objective.count,), math.inf, dtype=torch.float64)
        self.counterexample: Tensor | None = None
        self.bounded = self.subproblems = 0
        self.fixed, self.anew = _Way(), _Way()

    def lower(self) -> Tensor:
        """The bounds over the whole region."""
        lower = self.ended.clone()
        for part in self.parts:
            lower[part.rows] = torch.minimum(lower[part.rows], part.lower)
        return lower

    def advance(self) -> None:
        """Bounds the next part anew and looks into it."""
        part, start = self.parts[-1], time.monotonic()
        try:
            here = self.options.method.again(self.root.network, self.root.region, part.known, self.deadline)
        except ContradictionError:  # no inputs there
            self.parts.pop()
            return
        if self.deadline.passed:
            return
        self.bounded += 1
        self.parts.pop()
        self.look(here, part, time.monotonic() - start)

    def look(self, here: DualAbstraction, part: _Part, seconds: float = math.nan) -> None:
        """Bounds the rows of a part; what is open is branched on with fixed bounds, or split.

        ``seconds``: how long it took to bound the part anew.
        """
        found = self._branched(here, part, seconds)
        now, self.counterexample = torch.fmax(found.lower, part.lower), found.counterexample
        open_ = ~(now > 0)
        if self._few_unstable(here) and self.counterexample is None:
            now, ended = self._solved(here, part.rows, now)
            open_ = ~(now > 0) & ~ended
        halves = list[_Part]()
        if bool(open_.any()):
            first = float(found.first.min())
            halves = self._split(here, found.promise, _Part(here.bounds, part.rows[open_], now[open_], first))
        ended = ~open_ if halves else torch.ones_like(open_)
        self.ended[part.rows[ended]] = torch.minimum(self.ended[part.rows[ended]], now[ended])
        self.parts += halves

    def _few_unstable(self, here: DualAbstraction) -> bool:
        """Whether mixed-integer programs can be expected to end; they take ReLUs, and linear regions."""
        below = here.network.upto(self.objective.node)
        activations = [node for node in below if node in here.network.activations]
        unstable = sum(int(here.bounds[node.inputs[0]].unstable.sum()) for node in activations)
        relus = all(isinstance(node.operator, Relu) for node in activations)
        return relus and isinstance(here.region, Box | L1Ball) and unstable <= _FEW

    def _solved(self, here: DualAbstraction, rows: Tensor, lower: Tensor) -> tuple[Tensor, Tensor]:
        """The bounds ``(m,)`` of a part's rows, raised to their minima where those are not proved, and which are: there
        is nothing to gain by splits then."""
        better, ended = lower.clone(), lower > 0
        open_ = (~ended).nonzero()[:, 0]
        if not len(open_):
            return better, ended
        objective = self.objective.select(rows[open_])
        trees = MilpAbstraction.over(here).search(objective, lower[None, open_], deadline=self.deadline)
        points = [tree.point for tree in trees if tree.point is not None and tree.upper <= 0]
        if points and self.refute is not None:
            self.counterexample = self.refute(torch.cat(points))
        for position, tree in zip(open_.tolist(), trees, strict=False):  # fewer at the deadline
            better[position], ended[position] = max(float(lower[position]), tree.lower), tree.status is not Status.OPEN
        return better, ended

    def _branched(self, here: DualAbstraction, part: _Part, seconds: float) -> Branched:
        """The rows of a part with fixed bounds: to the end where that is expected to be quicker than splits are."""
        objective = self.objective.select(part.rows)
        dual = SplitDual.of(here.problem(objective.node), self.options.machine)
        start = time.monotonic()
        after_first = start

        def worth(worst: float) -> float:
            nonlocal after_first
            after_first = time.monotonic()
            if not math.isnan(seconds):
                self.anew.saw(seconds + after_first - start, worst - part.first)
            if math.isnan(self.fixed.gain) or math.isnan(self.anew.gain):
                return _PROBE
            expected = self.fixed.expected(-worst)
            if expected > self.anew.expected(-worst):
                return _PROBE
            return max(_PROBE, _TRUST * 2.0 ** min(expected, 60.0) / self.fixed.seconds)

        steps = Ascent(self.options.method.steps or 0)
        found = branch_and_bound(dual, objective, self.options.branching, steps, self.refute, self.deadline, worth)
        self.subproblems += found.bounded
        more, rows = found.bounded - objective.count, int((~(found.first > 0)).sum())
        if more > 0 and rows:
            levels = max(1.0, math.log2(more / rows + 1))
            gain = min(0.0, float(found.lower.min())) - float(found.first.min())
            self.fixed.saw((time.monotonic() - after_first) / more, gain / levels)
        return found

    def _split(self, here: DualAbstraction, promise: Tensor, part: _Part) -> list[_Part]:
        """The halves of a part that deciding a neuron makes: the most promising one, earlier layers preferred."""
        relaxations = here.problem(self.objective.node).relaxations
        best, chosen, first = 0.0, None, 0
        for later, (name, relaxation) in zip(reversed(range(len(relaxations))), relaxations.items(), strict=True):
            activation = here.network[name]
            source, scores = activation.inputs[0], promise[first : first + len(relaxation.unit)]
            first += len(relaxation.unit)
            scores = torch.where(here.bounds[source].unstable.flatten(), scores, 0.0) * _EARLIER**later
            if isinstance(activation.operator, Relu) and float(scores.max()) > best:
                best, chosen = float(scores.max()), (source, scores.argmax())
        if chosen is None:
            return []
        source, neuron = chosen
        halves = (_decided(here.bounds[source], neuron, side) for side in (-1, 1))
        return [replace(part, known={**part.known, source: half}) for half in halves]


def _decided(bounds: Bounds, neuron: Tensor, side: int) -> Bounds:
    """The bounds with one neuron's sign decided."""
    lower, upper = bounds.lower.clone(), bounds.upper.clone()
    (lower if side > 0 else upper).view(-1)[neuron] = 0.0
    return Bounds(lower, upper)
