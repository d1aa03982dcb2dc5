"""The default attack: cheap tries first, then rounds of projected gradient descent from many starting points."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor

from kreludomain.attack.initialisation import faces, linearised
from kreludomain.attack.pgd import AttackProblem, StepRule, pgd
from kreludomain.domain import DeepPoly, LayerBounds, Query
from kreludomain.domain.decision import Attack
from kreludomain.errors import InputError
from kreludomain.network import Runtime

#: Random points that are tried. Where there are few inputs, they are as good as descent.
_FEW_INPUTS, _MANY_POINTS, _SOME_POINTS = 16, 65_536, 256

#: The most and fewest clauses that the descents of a round are for; each round halves the most.
_MOST_CLAUSES, _FEWEST_CLAUSES = 32, 3


@dataclass(frozen=True)
class PGDAttack(Attack):
    """Projected gradient descent on the clauses nearest to broken, after the centre and random points.

    The centre, minimisers of the margins' linearisation there and random points come first, then ``rounds`` rounds of
    ``descents`` descents each: one from each clause's best point so far, the others from minimisers of random
    linearisations of the network between its bounds (DeepPoly's if none are known). A descent makes ``steps`` steps;
    ``step_size`` is the first as a share of the region's width, the last is next to none; ``momentum`` is that of the
    direction. The same ``seed`` gives the same search.
    """

    rounds: int = 3
    descents: int = 128
    steps: int = 40
    step_size: float = 0.1
    momentum: float = 0.75
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        for name, least in (("rounds", 0), ("descents", 1), ("steps", 0)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: {getattr(self, name)} is not a number from {least} up")
        if not self.step_size > 0:
            raise InputError(f"step_size: {self.step_size} is not a number above 0")
        if not 0 <= self.momentum < 1:
            raise InputError(f"momentum: {self.momentum} is not a number from 0 up and below 1")

    def quick(self) -> PGDAttack:
        """At most one round."""
        return replace(self, rounds=min(1, self.rounds))

    def search(self, query: Query, runtime: Runtime, bounds: LayerBounds | None = None) -> Tensor | None:
        problem = AttackProblem.of(query, runtime)
        search = _PGDSearch(problem, self, torch.Generator().manual_seed(self.seed))
        found = search.centre()
        if found is None:
            found = search.random()
        for number in range(self.rounds):
            if found is not None or query.deadline.passed:
                break
            if bounds is None:
                bounds = DeepPoly(neurons="unstable").abstract(Query(query.network, query.region)).bounds
            found = search.descents(bounds, number)
        return found


@dataclass(eq=False)
class _PGDSearch:
    """The state of a search: each clause's smallest margin so far, ``(c,)``, and the point that has it,
    ``(c, *shape)``."""

    problem: AttackProblem
    options: PGDAttack
    generator: torch.Generator
    clause_margins: Tensor = field(init=False)
    points: Tensor = field(init=False)

    def centre(self) -> Tensor | None:
        """The centre, and for every row the region's point where its linearisation at the centre is smallest."""
        problem, region = self.problem, self.problem.float32_region
        network = problem.network
        none = torch.full((problem.claim.clause_count,), float("inf"), dtype=network.dtype, device=network.device)
        self.clause_margins = none
        self.points = region.center.repeat(len(self.clause_margins), *[1] * len(region.shape))
        found = self._try(region.center)
        for rows in torch.arange(len(problem.claim.C)).split(problem.batch):
            if found is not None or problem.deadline.passed:
                break
            x = region.center.repeat(len(rows), *[1] * len(region.shape)).requires_grad_()
            (gradients,) = torch.autograd.grad(problem.margins(x).gather(1, rows[:, None].to(x.device)).sum(), x)
            found = self._try(region.minimiser(gradients[None])[0])
        return found

    def random(self) -> Tensor | None:
        """Random points: half of them of the whole region, half of its faces."""
        region = self.problem.float32_region
        left = _MANY_POINTS if self.problem.query.region.lower.numel() <= _FEW_INPUTS else _SOME_POINTS
        while left > 0 and not self.problem.deadline.passed:
            count = min(left, self.problem.batch)
            inside = region.sample(count - count // 2, self.generator)
            found = self._try(torch.cat([inside, faces(region, count // 2, self.generator)]))
            if found is not None:
                return found
            left -= count
        return None

    def descents(self, bounds: LayerBounds, number: int) -> Tensor | None:
        """Round ``number`` of descents: one from each clause's best point, the others from random linearisations."""
        problem = self.problem
        rule = StepRule(self.options.steps, self.options.step_size, self.options.momentum)
        nearest = self.clause_margins.argsort()[: max(_FEWEST_CLAUSES, _MOST_CLAUSES >> number)]
        clauses = nearest.repeat(max(2, min(self.options.descents, problem.batch) // len(nearest)))
        for start, part in enumerate(clauses.split(problem.batch)):
            if problem.deadline.passed:
                return None
            x = linearised(problem.network, problem.float32_region, bounds, self._rows(part), self.generator)
            if start == 0:
                own = min(len(nearest), len(part))
                x[:own] = self.points[nearest[:own]]
            found, clause_margins = pgd(problem, x, part, rule)
            if found is not None:
                return found
            self.clause_margins = torch.fmin(self.clause_margins, clause_margins)
        return None

    def _rows(self, clauses: Tensor) -> Tensor:
        """A random weighting of the rows of each of the clauses ``(N,)``: ``(N, outputs)``."""
        claim = self.problem.claim
        uniform = torch.rand((len(clauses), len(claim.C)), generator=self.generator, dtype=torch.float32)
        uniform = uniform.clamp(min=1e-6)
        weights = uniform.log().neg().to(clauses.device) * (claim.clauses.to(clauses) == clauses[:, None])
        return (weights / weights.sum(1, keepdim=True)) @ claim.C.to(weights)

    @torch.no_grad()
    def _try(self, x: Tensor) -> Tensor | None:
        """The first of the points ``(N, *shape)`` that is a counterexample; the best of each clause are kept."""
        for part in x.split(self.problem.batch):
            margins = self.problem.margins(part)
            found = self.problem.confirmed(part, margins)
            if found is not None:
                return found
            clause_margins, positions = self.problem.claim.clause_margins(margins).min(0)
            better = clause_margins < self.clause_margins
            self.clause_margins = torch.where(better, clause_margins, self.clause_margins)
            self.points[better] = part[positions[better]]
        return None
