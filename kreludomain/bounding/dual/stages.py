"""A claim proved in stages, from quick to thorough, each over the bounds found so far and on the rows that are open."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.bounding.dual.abstraction import DualAbstraction
from kreludomain.bounding.dual.layers import LayerOptions, deeppoly, deeppoly_over, refine_layers
from kreludomain.bounding.dual.output_constraints import refine_under
from kreludomain.domain import Abstraction, LowerBounds, Query
from kreludomain.property import Claim


@dataclass(frozen=True)
class Stage:
    """How a stage refines the layers, and how many passes under output constraints it makes for a row that stays open.

    ``gain_factor``: the stage is begun if the worst row lacks at most this many times what the stage before gained.
    """

    layers: LayerOptions
    passes: int
    gain_factor: float


@dataclass(frozen=True, eq=False)
class StageResult:
    """The abstraction after a stage and the bounds ``(1, m)`` of the claim's rows, the best so far.

    ``gain``: by how much the stage raised the worst row's bound. ``stages_left``: how many stages may follow.
    """

    abstraction: Abstraction
    lower_bounds: LowerBounds
    gain: float
    stages_left: int

    @property
    def dual(self) -> DualAbstraction | None:
        """The abstraction, if the dual made it."""
        return self.abstraction if isinstance(self.abstraction, DualAbstraction) else None


def first_result(query: Query, stages: Sequence[Stage]) -> StageResult:
    """DeepPoly alone, before all stages."""
    abstraction = deeppoly(query)
    return StageResult(abstraction, abstraction.prove(query.objective, query.deadline), torch.inf, len(stages))


def next_result(stages: Sequence[Stage], result: StageResult, query: Query) -> StageResult | None:
    """The result of the next of ``stages``, which bounds the rows that ``result`` leaves open.

    ``None`` where no stage is left, no row is open, the deadline has passed, or the stage is not worth beginning.
    """
    objective, deadline, lower = query.objective, query.deadline, result.lower_bounds.lower.clone()
    rows = _open_rows(lower, query.claim)
    if not result.stages_left or not len(rows) or deadline.passed:
        return None
    stage, worst = stages[-result.stages_left], _worst(lower, query.claim)
    if worst < -stage.gain_factor * result.gain:
        return None
    open_, first, previous = objective.select(rows), result.abstraction, result.dual
    if previous is not None:
        first = deeppoly_over(previous, previous.bounds, deadline)
    refined = refine_layers(first, stage.layers, deadline, previous, open_)
    if deadline.passed:
        return replace(result, abstraction=refined, stages_left=0)
    found = refined.prove(open_, deadline)
    lower[0, rows] = torch.fmax(lower[0, rows], found.lower[0])
    gain = _worst(lower, query.claim) - worst
    _refine_rows(refined, query, lower, stage)
    notes = result.lower_bounds.notes + found.notes
    return StageResult(refined, LowerBounds(lower, notes), gain, result.stages_left - 1)


def _refine_rows(abstraction: DualAbstraction, query: Query, lower: Tensor, stage: Stage) -> None:
    """Raises the bounds ``lower`` ``(1, m)`` of open rows by contradiction, in place.

    The worst row comes first: where it cannot be proved, the others need not be.
    """
    rows = _open_rows(lower, query.claim) if stage.passes else lower.new_zeros(0, dtype=torch.long)
    for row in rows[lower[0, rows].argsort()].tolist():
        clause, known = query.objective.rows(row, row + 1), lower[0, row : row + 1]
        found = refine_under(abstraction, clause, known, stage.passes, stage.layers, query.deadline)
        lower[0, row] = found.everywhere[0]
        if not found.proved:
            break


def _open_rows(lower: Tensor, claim: Claim | None) -> Tensor:
    """The rows whose bounds ``(1, m)`` are not positive, or no numbers, in clauses that are not proved."""
    open_ = ~(lower[0] > 0)
    if claim is not None:
        open_ &= ~claim.proved(lower[0])[claim.clauses.to(lower.device)]
    return open_.nonzero()[:, 0]


def _worst(lower: Tensor, claim: Claim | None) -> float:
    """The bound of the worst row; of rows in clauses, that of the worst clause."""
    return float((lower if claim is None else claim.clause_margins(lower)).min())
