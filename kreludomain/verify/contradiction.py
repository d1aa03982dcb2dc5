"""Clauses that bounds of the whole region do not prove, each over the inputs where it fails."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor

from kreludomain.bounding import KRelu
from kreludomain.bounding.dual import ConstrainedBounds, DualAbstraction
from kreludomain.branching import Branching, RefinedBranching, Refute
from kreludomain.domain import DecisionQuery, DecisionResult
from kreludomain.property import Claim


class OpenClauses:
    """Proves open clauses by contradiction: there are no inputs where all of a clause's rows fail.

    ``reached`` is the abstraction of the whole region, ``bounder`` made it.
    """

    def __init__(
        self, reached: DualAbstraction, bounder: KRelu, branching: Branching, query: DecisionQuery, refute: Refute
    ) -> None:
        self.reached, self.bounder, self.query, self.refute = reached, bounder, query, refute
        self.refined_branching = RefinedBranching(bounder, branching, reached.compute)
        self.constrained: dict[int, ConstrainedBounds] = {}

    def prove_by_contradiction(self, result: DecisionResult) -> DecisionResult:
        """The worst clause first: if that cannot be proved, the others wait."""
        for clause in open_clauses(self.query.claim, result.lower):
            result = self._constrain(result, clause)
            if not self.constrained[clause].proved:
                return result
        return replace(result, proved=True)

    def prove_by_refined_branching(self, result: DecisionResult) -> DecisionResult:
        """Likewise; what bounds alone do not prove is branched on, until a clause cannot be decided in time."""
        query = self.query
        for clause in open_clauses(query.claim, result.lower):
            if clause not in self.constrained:
                result = self._constrain(result, clause)
            constrained = self.constrained[clause]
            if constrained.proved:
                continue
            rows = rows_of(query.claim, clause)
            found = self.refined_branching.prove(query.objective.select(rows), constrained, self.refute, query.deadline)
            lower = constrained.lower.clone().fill_(found.lower)
            result = self._raised(result, rows, replace(constrained, lower=lower))
            result = replace(result, counterexample=found.counterexample, notes=(*result.notes, found.note))
            if not found.proved:
                return result
        return replace(result, proved=True)

    def _constrain(self, result: DecisionResult, clause: int) -> DecisionResult:
        rows = rows_of(self.query.claim, clause)
        found = self.bounder.refine_under(
            self.reached, self.query.objective.select(rows), result.lower[rows], deadline=self.query.deadline
        )
        self.constrained[clause] = found
        return self._raised(result, rows, found)

    def _raised(self, result: DecisionResult, rows: Tensor, found: ConstrainedBounds) -> DecisionResult:
        """The result with the bound of a clause's row; of several rows, none has to hold everywhere."""
        if len(rows) > 1:
            return result
        lower = result.lower.clone()
        lower[rows] = torch.fmax(lower[rows], found.everywhere.cpu())
        return replace(result, lower=lower)


def open_clauses(claim: Claim, lower: Tensor) -> list[int]:
    """The clauses that bounds ``(m,)`` of the rows do not prove, the worst first."""
    open_ = (~claim.proved(lower)).nonzero()[:, 0]
    chosen: list[int] = open_[claim.clause_margins(lower[None])[0, open_].argsort()].tolist()
    return chosen


def rows_of(claim: Claim, clause: int) -> Tensor:
    """The positions of a clause's rows."""
    return (claim.clauses == clause).nonzero()[:, 0]
