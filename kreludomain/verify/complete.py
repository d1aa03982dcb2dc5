"""The complete method: attack, bounds, and branch and bound in turn, each where it pays."""

from __future__ import annotations

import math
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor

from kreludomain.bounding import KRelu
from kreludomain.bounding.dual import (
    ComputeOptions,
    ConstrainedBounds,
    DualAbstraction,
    DualAscent,
    SplitDual,
    StageResult,
)
from kreludomain.branching.inputs import SplitOutcome, prove_by_input_splitting
from kreludomain.branching.neurons import Branching, Progress, branch_and_bound
from kreludomain.branching.refined import RefinedBranching
from kreludomain.deadline import Deadline
from kreludomain.domain import DeepPoly, LowerBounds, Query
from kreludomain.groups import Grouping
from kreludomain.property import Claim
from kreludomain.verify.decision import Decider, Decision, Question


@dataclass(frozen=True)
class Complete(Decider):
    """Proves or refutes a claim, in whatever time that takes.

    A short attack; the stages of :class:`KRelu`, from quick to thorough, with an infinite ``gain_factor``, and after
    each of them branch and bound over the signs of neurons, as long as that promises to end; after the first, a long
    attack; then, one clause after the other, bounds of the inputs where it fails, and branch and bound there with all
    bounds made anew.

    ``preset``, ``k``, ``partition_size``, ``grouping``, ``dtype`` and ``device``: as in :class:`KRelu`. ``batch`` and
    ``branch_steps``: as ``batch`` and ``steps`` in :class:`Branching`. A box of at most ``few_inputs`` inputs is split
    itself instead, see :mod:`kreludomain.branching.inputs`. ``memory_mb`` bounds what is held at once, and
    what waits in memory.
    """

    preset: str = "balanced"
    k: int = 3
    partition_size: int | None = None
    grouping: str | Grouping = "auto"
    batch: int = 32
    branch_steps: int = 30
    few_inputs: int = 8
    dtype: str = "float32"
    device: str = "cpu"
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        self._krelu(), self._branching()  # raise for what they do not take

    @property
    def group_size(self) -> int:
        return self.k

    def _krelu(self) -> KRelu:
        return KRelu(
            preset=self.preset,
            k=self.k,
            partition_size=self.partition_size,
            grouping=self.grouping,
            steps=_STEPS,
            gain_factor=float("inf"),
            dtype=self.dtype,
            device=self.device,
            memory_mb=self.memory_mb,
        )

    def _compute(self) -> ComputeOptions:
        return ComputeOptions(self.dtype, self.device, self.memory_mb)

    def _branching(self) -> Branching:
        return Branching(self.batch, self.branch_steps, self.memory_mb)

    def abstract(self, query: Query) -> DualAbstraction:
        """The abstraction that branching starts from."""
        return self._krelu().abstract(query)

    def decide(self, question: Question) -> Decision:
        return _Cascade(question, self).run()


#: How long the first attack, or the first search of boxes, may take, in seconds: a quick look next to what follows.
_GLANCE = 1.0

#: From how many subproblems on it is asked whether a search will end; which part is then believed of the levels that
#: their gain suggests, the largest part, and what is added for twice as many. On nine images of three networks,
#: searches that ended took 0.4 of them at 100 subproblems, 0.5 at 300 and 0.8 to 0.9 at 700; at 60 it is continued.
_LOOK, _BELIEVED = 60, (0.27, 0.8, 0.13)
#: How long a search may take, in seconds, even if there is no time limit: the other ways have to have a turn. Before
#: the last bounds are made, about as long as making those takes on convolutions.
_LONGEST, _EARLY = 600.0, 30.0
#: For margins, which branching goes on from, and at the root of a tree: there 200 made no fewer subproblems than 60 on
#: eleven images of two networks.
_STEPS, _ROOT = 100, DualAscent(60)


class _Cascade:
    """One question on its way through the stages."""

    def __init__(self, question: Question, options: Complete) -> None:
        self.question, self.options = question, options
        self.seconds: dict[str, float] = {}

    def run(self) -> Decision:
        q = self.question
        if self._few_inputs():
            return self._split_inputs()
        found = self._attacked(self._within(_GLANCE), rounds=1)
        if found is not None:
            return self._refuted(found)
        method = replace(self.options._krelu(), passes=0)
        with self._timed("bounds"):
            reached = method.first_stage(q.query)
        decision, attacked = self._with(reached), False
        while self._open(decision):
            with self._timed("bounds"):
                further = method.next_stage(reached, q.query)
            if further is None:
                break
            reached, decision = further, self._with(further, decision.notes)
            if not attacked and self._open(decision):
                attacked, found = True, self._attacked(q.deadline, lower=decision.lower, bounds=decision.bounds)
                decision = replace(decision, counterexample=found)
            if self._open(decision):
                decision = self._branched(reached, decision)
                minima = LowerBounds(decision.lower[None].to(reached.lower_bounds.lower), reached.lower_bounds.notes)
                reached = replace(reached, lower_bounds=minima)
        if reached.dual is not None:
            failing = _Failing(reached.dual, self.options, q)
            for stage, step in (
                ("where clauses fail", failing.by_contradiction),
                ("branching where clauses fail", failing.by_refined_branching),
            ):
                if self._open(decision):
                    with self._timed(stage):
                        decision = step(decision)
        return replace(decision, seconds=self.seconds)

    def _with(self, reached: StageResult, notes: tuple[str, ...] = ()) -> Decision:
        notes = (*notes, *reached.abstraction.notes, *reached.lower_bounds.notes)
        lower = reached.lower_bounds.lower[0].cpu()
        return Decision(lower, reached.abstraction.bounds, None, tuple(dict.fromkeys(notes)))

    def _branched(self, reached: StageResult, decision: Decision) -> Decision:
        """Clauses of one row, all of them at once: the bounds of the layers stay, which makes many subproblems quick.

        Ends when that is not expected to prove them in time. Before the last bounds there is less of it: with those,
        the tree is smaller.
        """
        q = self.question
        most = min(_EARLY, q.deadline.remaining / 2) if reached.stages_left else _LONGEST
        each = [_rows_of(q.claim, clause) for clause in _open_clauses(q.claim, decision.lower)]
        rows = torch.cat([rows for rows in each if len(rows) == 1] or [torch.zeros(0, dtype=torch.long)])
        if not len(rows) or reached.dual is None:
            return decision
        objective = q.claim.objective(q.network).select(rows).pulled_back(q.network)
        dual = SplitDual.of(reached.dual.problem(objective.node), self.options._compute())
        deadline = self._within(most)
        with self._timed("branching"):
            found = branch_and_bound(
                dual, objective, self.options._branching(), _ROOT, q.refute, deadline, _Expecting(deadline)
            )
        lower = decision.lower.clone()
        lower[rows] = torch.fmax(lower[rows], found.lower.to(lower))
        note = f"branch and bound: {found.bounded} subproblems, {found.open} open"
        return replace(decision, lower=lower, counterexample=found.counterexample, notes=(*decision.notes, note))

    def _few_inputs(self) -> bool:
        q = self.question
        relus = all(node.is_relu for node in q.network.activations)
        return relus and q.region.is_box and math.prod(q.region.shape) <= self.options.few_inputs

    def _split_inputs(self) -> Decision:
        """A first look decides most; where it does not, points are tried before all of the time goes into boxes.

        Points are quick, and find the small corners that a search led by bounds comes to last.
        """
        q = self.question
        found = self._split(self._within(_GLANCE))
        if not found.proved and found.counterexample is None and not q.deadline.passed:
            point = self._attacked(q.deadline)
            if point is not None:
                return self._refuted(point)
            found = self._split(q.deadline)
        known = self._quickly()
        notes = (*known.notes, f"input splitting: {found.boxes} boxes bounded; {found.reason}")
        return replace(known, counterexample=found.counterexample, proved=found.proved, notes=notes)

    def _split(self, deadline: Deadline) -> SplitOutcome:
        q = self.question
        with self._timed("input splitting"):
            return prove_by_input_splitting(q.network, q.region, q.claim, deadline=deadline, runtime=q.runtime)

    def _refuted(self, counterexample: Tensor) -> Decision:
        return replace(self._quickly(), counterexample=counterexample)

    def _quickly(self) -> Decision:
        """DeepPoly's bounds, for whoever wants some where they do not decide."""
        q = self.question
        with self._timed("bounds"):
            abstraction = DeepPoly(neurons="unstable").abstract(replace(q.query, deadline=Deadline()))
            minima = abstraction.minimise(q.claim.objective(q.network))
        lower = minima.lower[0].cpu()
        return Decision(lower, abstraction.bounds, None, abstraction.notes + minima.notes, self.seconds)

    def _open(self, decision: Decision) -> bool:
        return (
            decision.counterexample is None
            and not decision.proved
            and not bool(self.question.claim.proved(decision.lower).all())
            and not self.question.deadline.passed
        )

    def _within(self, seconds: float) -> Deadline:
        return Deadline(min(self.question.deadline.at, time.monotonic() + seconds))

    def _attacked(self, deadline: Deadline, **how: Any) -> Tensor | None:
        with self._timed("attack"):
            return self.question.attack(deadline, **how)

    @contextmanager
    def _timed(self, stage: str) -> Iterator[None]:
        start = time.monotonic()
        yield
        self.seconds[stage] = self.seconds.get(stage, 0.0) + time.monotonic() - start


@dataclass
class _Expecting:
    """Whether a search is expected to end by the deadline.

    What a level of its tree still has to gain is what it lacked before any split; what levels gain grows on the way, so
    the fewer subproblems there were, the less of what they suggest is believed.
    """

    deadline: Deadline
    start: float = field(default_factory=time.monotonic)

    def __call__(self, progress: Progress) -> bool:
        if progress.bounded < _LOOK:
            return True
        spent = time.monotonic() - self.start
        seconds = spent / progress.bounded * progress.rows
        believed = min(_BELIEVED[1], _BELIEVED[0] + _BELIEVED[2] * math.log2(progress.bounded / _LOOK))
        levels = believed * -progress.first / max(progress.gain, 1e-9)
        return seconds * 2.0 ** min(levels, 60.0) < spent + self.deadline.remaining


class _Failing:
    """The clauses that bounds of the whole region do not prove, over the inputs where they fail."""

    def __init__(self, reached: DualAbstraction, options: Complete, question: Question) -> None:
        self.reached, self.question = reached, question
        self.method, self.branching, self.compute = options._krelu(), options._branching(), options._compute()
        self.assumed: dict[int, ConstrainedBounds] = {}

    def by_contradiction(self, decision: Decision) -> Decision:
        """The worst clause first: if that cannot be proved, the others wait."""
        for clause in _open_clauses(self.question.claim, decision.lower):
            decision = self._assume(decision, clause)
            if not self.assumed[clause].proved:
                return decision
        return replace(decision, proved=True)

    def by_refined_branching(self, decision: Decision) -> Decision:
        """Likewise; what bounds alone do not prove is branched on, until a clause cannot be decided in time."""
        q, refined_branching = self.question, RefinedBranching(self.method, self.branching, self.compute)
        for clause in _open_clauses(q.claim, decision.lower):
            if clause not in self.assumed:
                decision = self._assume(decision, clause)
            assumed = self.assumed[clause]
            if assumed.proved:
                continue
            rows = _rows_of(q.claim, clause)
            found = refined_branching.prove(q.claim.objective(q.network).select(rows), assumed, q.refute, q.deadline)
            lower = assumed.lower.clone().fill_(found.lower)
            decision = self._raised(decision, rows, replace(assumed, lower=lower))
            decision = replace(decision, counterexample=found.counterexample, notes=(*decision.notes, found.note))
            if not found.proved:
                return decision
        return replace(decision, proved=True)

    def _assume(self, decision: Decision, clause: int) -> Decision:
        q, rows = self.question, _rows_of(self.question.claim, clause)
        objective = q.claim.objective(q.network).select(rows)
        found = self.method.refine_under(self.reached, objective, decision.lower[rows], deadline=q.deadline)
        self.assumed[clause] = found
        return self._raised(decision, rows, found)

    def _raised(self, decision: Decision, rows: Tensor, found: ConstrainedBounds) -> Decision:
        """The decision with what was found of a clause's row; where it has several, none of them has to hold
        everywhere."""
        if len(rows) > 1:
            return decision
        lower = decision.lower.clone()
        lower[rows] = torch.fmax(lower[rows], found.everywhere.cpu())
        return replace(decision, lower=lower)


def _open_clauses(claim: Claim, lower: Tensor) -> list[int]:
    """Those that bounds ``(m,)`` of the rows do not prove, the worst first."""
    open_ = (~claim.proved(lower)).nonzero()[:, 0]
    chosen: list[int] = open_[claim.clause_margins(lower[None])[0, open_].argsort()].tolist()
    return chosen


def _rows_of(claim: Claim, clause: int) -> Tensor:
    return (claim.clauses == clause).nonzero()[:, 0]
