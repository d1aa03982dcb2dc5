"""The complete method: attack, bounds, and branch and bound in turn, each where it pays."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

import torch
from torch import Tensor

from kreludomain.attack import Attack, PGDAttack, refuted
from kreludomain.bounding import KRelu
from kreludomain.bounding.dual import DualAbstraction, DualAscent, SplitDual, StageResult
from kreludomain.branching import (
    Branching,
    ExpectedToEnd,
    InputSplitting,
    InputSplittingResult,
    branch_and_bound,
    prove_by_input_splitting,
)
from kreludomain.deadline import Deadline
from kreludomain.domain import DecisionQuery, DecisionResult, DeepPoly, LowerBounds, Method, Query
from kreludomain.verify.contradiction import OpenClauses, open_clauses, rows_of
from kreludomain.verify.stages import StageSeconds


@dataclass(frozen=True)
class Complete(Method):
    """Proves or refutes a claim, in whatever time that takes.

    A short attack; the stages of ``bounder``, from quick to thorough, and after each of them branch and bound over the
    signs of neurons (``branching``), as long as that is expected to end; after the first, a long ``attack``; then, one
    clause after the other, bounds of the inputs where it fails, and branch and bound there with all bounds made anew.
    A box of few inputs is split itself instead (``splitting``).

    The default bounder makes 100 ``steps`` for outputs, from which branching goes on, and goes through all stages
    (``gain_factor`` is infinite).
    """

    bounder: KRelu = field(default_factory=partial(KRelu, steps=100, gain_factor=float("inf")))
    branching: Branching = field(default_factory=Branching)
    splitting: InputSplitting = field(default_factory=InputSplitting)
    attack: Attack = field(default_factory=PGDAttack)

    @property
    def group_size(self) -> int:
        return self.bounder.group_size

    @property
    def is_complete(self) -> bool:
        return True

    @property
    def own_attack(self) -> Attack:
        return self.attack

    def abstract(self, query: Query) -> DualAbstraction:
        """The abstraction that branching starts from."""
        return self.bounder.abstract(query)

    def decide(self, query: DecisionQuery) -> DecisionResult:
        if query.claim.needed is not None:
            return self._decide_disjunctions(query)
        if self.splitting.takes(query):
            return _InputDecision(query, self).run()
        return _NeuronDecision(query, self).run()

    def _decide_disjunctions(self, query: DecisionQuery) -> DecisionResult:
        """A claim whose clauses need several rows: what the bounder's bounds leave of it, as disjunctions."""
        found = self.bounder.decide(replace(query, tight=False))
        if found.counterexample is not None or query.deadline.passed or bool(query.claim.proved(found.lower).all()):
            return found
        left = query.claim.disjunctions(found.lower, _MOST_ROWS)
        if left is None:
            note = f"clauses that need several rows, too many ways to break them for a search ({_MOST_ROWS} rows)"
            return replace(found, notes=(*found.notes, note))
        result = self.decide(replace(query, claim=left))
        proved = result.proved or bool(left.proved(result.lower).all())
        notes = tuple(dict.fromkeys((*found.notes, *result.notes)))
        seconds = {name: found.seconds.get(name, 0.0) + result.seconds.get(name, 0.0) for name in result.seconds}
        return replace(result, lower=found.lower, proved=proved, notes=notes, seconds={**found.seconds, **seconds})


#: The most seconds of the first attack, or of the first search of boxes: a first look next to what follows.
_FIRST_LOOK_SECONDS = 1.0
#: The most seconds of one search, even if there is no time limit, so that the other ways have a turn: once the last
#: bounds are made, and before. The latter is about as long as it takes to make those on convolutions.
_SEARCH_SECONDS, _EARLY_SEARCH_SECONDS = 600.0, 30.0
#: The most rows of the disjunctions that a claim of clauses with several needed rows is written as.
_MOST_ROWS = 2000
#: At the root of a tree, 200 steps made no fewer subproblems than 60 on eleven images of two networks.
_ROOT_ASCENT = DualAscent(60)


class _Decision:
    """A claim that is being decided; the time of each stage is taken."""

    def __init__(self, query: DecisionQuery, options: Complete) -> None:
        self.query, self.options = query, options
        self.seconds = StageSeconds()

    def _within(self, seconds: float) -> Deadline:
        return Deadline(min(self.query.deadline.at, time.monotonic() + seconds))

    def _refuted(self, counterexample: Tensor) -> DecisionResult:
        return replace(self._deeppoly(), counterexample=counterexample)

    def _deeppoly(self) -> DecisionResult:
        """DeepPoly's bounds, to be shown where something else decides."""
        query = self.query.until(Deadline())
        with self.seconds.of("bounds"):
            abstraction = DeepPoly(neurons="unstable").abstract(query)
            bounds = abstraction.minimise(query.objective)
        lower = bounds.lower[0].cpu()
        return DecisionResult(lower, abstraction.bounds, None, abstraction.notes + bounds.notes, self.seconds)


class _InputDecision(_Decision):
    """By splitting inputs."""

    def run(self) -> DecisionResult:
        """A first search decides most. If it does not, points are tried before all of the time goes into boxes: they
        are quick, and find small corners that a search led by bounds comes to last."""
        found = self._split(self._within(_FIRST_LOOK_SECONDS))
        if not found.proved and found.counterexample is None and not self.query.deadline.passed:
            with self.seconds.of("attack"):
                point = self.query.find_counterexample()
            if point is not None:
                return self._refuted(point)
            found = self._split(self.query.deadline)
        known = self._deeppoly()
        notes = (*known.notes, f"input splitting: {found.boxes} boxes bounded; {found.reason}")
        return replace(known, counterexample=found.counterexample, proved=found.proved, notes=notes)

    def _split(self, deadline: Deadline) -> InputSplittingResult:
        with self.seconds.of("input splitting"):
            return prove_by_input_splitting(self.query.until(deadline), self.options.splitting, self.query.runtime)


class _NeuronDecision(_Decision):
    """By bounds and splits of neurons."""

    def run(self) -> DecisionResult:
        query = self.query
        found = self._first_attack()
        if found is not None:
            return self._refuted(found)
        bounder = replace(self.options.bounder, passes=0)  # output constraints come after branching
        with self.seconds.of("bounds"):
            reached = bounder.first_stage(query)
        result, attacked = self._with(reached), False
        while self._is_open(result):
            with self.seconds.of("bounds"):
                further = bounder.next_stage(reached, query)
            if further is None:
                break
            reached, result = further, self._with(further, result.notes)
            if not attacked and self._is_open(result):
                with self.seconds.of("attack"):
                    attacked, found = True, query.find_counterexample(result.lower, result.bounds)
                result = replace(result, counterexample=found)
            if self._is_open(result):
                result = self._branched(reached, result)
                known = reached.lower_bounds
                reached = replace(reached, lower_bounds=LowerBounds(result.lower[None].to(known.lower), known.notes))
        if reached.dual is not None and query.network.activations:
            result = self._clause_by_clause(reached.dual, result)
        return replace(result, seconds=self.seconds)

    def _first_attack(self) -> Tensor | None:
        if self.query.attack is None:
            return None
        query = replace(self.query, attack=self.query.attack.quick(), deadline=self._within(_FIRST_LOOK_SECONDS))
        with self.seconds.of("attack"):
            return query.find_counterexample()

    def _with(self, reached: StageResult, notes: tuple[str, ...] = ()) -> DecisionResult:
        notes = (*notes, *reached.abstraction.notes, *reached.lower_bounds.notes)
        lower = reached.lower_bounds.lower[0].cpu()
        return DecisionResult(lower, reached.abstraction.bounds, None, tuple(dict.fromkeys(notes)))

    def _branched(self, reached: StageResult, result: DecisionResult) -> DecisionResult:
        """Clauses of one row, all of them at once: the bounds of the layers stay, which makes many subproblems quick.

        Ends when that is not expected to prove them in time. Before the last bounds there is less of it: with those,
        the tree is smaller.
        """
        query = self.query
        most = min(_EARLY_SEARCH_SECONDS, query.deadline.remaining / 2) if reached.stages_left else _SEARCH_SECONDS
        each = [rows_of(query.claim, clause) for clause in open_clauses(query.claim, result.lower)]
        rows = torch.cat([rows for rows in each if len(rows) == 1] or [torch.zeros(0, dtype=torch.long)])
        if not len(rows) or reached.dual is None or not query.network.activations:
            return result
        objective = query.objective.select(rows).pulled_back(query.network)
        dual = SplitDual.of(reached.dual.problem(objective.node), reached.dual.compute)
        deadline = self._within(most)
        with self.seconds.of("branching"):
            found = branch_and_bound(
                dual,
                objective,
                self.options.branching,
                _ROOT_ASCENT,
                self._refute,
                deadline,
                ExpectedToEnd(deadline),
            )
        lower = result.lower.clone()
        lower[rows] = torch.fmax(lower[rows], found.lower.to(lower))
        note = f"branch and bound: {found.bounded} subproblems, {found.open} open"
        return replace(result, lower=lower, counterexample=found.counterexample, notes=(*result.notes, note))

    def _clause_by_clause(self, reached: DualAbstraction, result: DecisionResult) -> DecisionResult:
        """The clauses that bounds of the whole region do not prove, over the inputs where they fail."""
        clauses = OpenClauses(reached, self.options.bounder, self.options.branching, self.query, self._refute)
        steps: tuple[tuple[str, Callable[[DecisionResult], DecisionResult]], ...] = (
            ("where clauses fail", clauses.prove_by_contradiction),
            ("branching where clauses fail", clauses.prove_by_refined_branching),
        )
        for stage, step in steps:
            if self._is_open(result):
                with self.seconds.of(stage):
                    result = step(result)
        return result

    def _refute(self, points: Tensor) -> Tensor | None:
        return refuted(self.query, points)

    def _is_open(self, result: DecisionResult) -> bool:
        return (
            result.counterexample is None
            and not result.proved
            and not bool(self.query.claim.proved(result.lower).all())
            and not self.query.deadline.passed
        )
