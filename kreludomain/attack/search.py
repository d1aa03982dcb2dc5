"""A search for counterexamples: cheap tries first, then rounds of descent from many starting points."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.attack.initialisation import faces, linearised
from kreludomain.attack.pgd import Hunt, descend
from kreludomain.deadline import Deadline
from kreludomain.domain import DeepPoly, LayerBounds, Query
from kreludomain.network import Network, Runtime
from kreludomain.property import Claim, Region

#: Random points that are tried. Where there are few inputs, they are as good as descent.
FEW_INPUTS, MANY_POINTS, SOME_POINTS = 16, 65_536, 256

#: Descents of a round, and the most and fewest clauses that they are for; each round halves the most.
DESCENTS, MOST_CLAUSES, FEWEST_CLAUSES = 128, 32, 3


def find_counterexample(
    network: Network,
    region: Region,
    claim: Claim,
    runtime: Runtime,
    rounds: int = 3,
    seed: int = 0,
    deadline: Deadline = Deadline(),
    bounds: LayerBounds | None = None,
) -> Tensor | None:
    """An input ``(1, *input_shape)`` of a region (batch of one) that breaks the claim, or ``None``.

    What is returned has been confirmed: it is a float32 point exactly inside the region, and onnxruntime's float32
    outputs break the claim. The centre, random points and minimisers of the margins' linearisation at the centre come
    first, then ``rounds`` rounds of descent on the clauses nearest to broken. ``bounds`` are bounds of all layers,
    such as a method found (DeepPoly's if there are none). The same seed gives the same search; it ends early at the
    deadline.
    """
    region = region.fit(network)
    hunt = Hunt(network.to(dtype=torch.float32), region, claim, runtime, deadline)
    search = _Search(hunt, torch.Generator().manual_seed(seed))
    found = search.centre()
    if found is None:
        found = search.random()
    for number in range(rounds):
        if found is not None or deadline.passed:
            break
        if bounds is None:
            bounds = DeepPoly(neurons="unstable").abstract(Query(network.to(dtype=torch.float64), region)).bounds
        found = search.descents(bounds, number)
    return found


@dataclass(eq=False)
class _Search:
    """The state of a search: each clause's smallest merit so far, ``(c,)``, and where it was met, ``(c, *shape)``."""

    hunt: Hunt
    generator: torch.Generator
    clause_margins: Tensor = dataclasses.field(init=False)
    points: Tensor = dataclasses.field(init=False)

    def centre(self) -> Tensor | None:
        """The centre, and for every row the region's point where its linearisation at the centre is smallest."""
        hunt = self.hunt
        self.clause_margins = torch.full((hunt.claim.clause_count,), float("inf"), device=hunt.network.device)
        self.points = hunt.rough.center.repeat(len(self.clause_margins), *[1] * len(hunt.region.shape))
        found = self._try(hunt.rough.center)
        for rows in torch.arange(len(hunt.claim.C)).split(hunt.most):
            if found is not None or hunt.deadline.passed:
                break
            x = hunt.rough.center.repeat(len(rows), *[1] * len(hunt.region.shape)).requires_grad_()
            (gradients,) = torch.autograd.grad(hunt.margins(x).gather(1, rows[:, None].to(x.device)).sum(), x)
            found = self._try(hunt.rough.minimiser(gradients[None])[0])
        return found

    def random(self) -> Tensor | None:
        """Random points: of the whole region, and of its faces."""
        few = self.hunt.region.lower.numel() <= FEW_INPUTS
        left = MANY_POINTS if few else SOME_POINTS
        while left > 0 and not self.hunt.deadline.passed:
            count = min(left, self.hunt.most)
            inside = self.hunt.rough.sample(count - count // 2, self.generator)
            found = self._try(torch.cat([inside, faces(self.hunt.rough, count // 2, self.generator)]))
            if found is not None:
                return found
            left -= count
        return None

    def descents(self, bounds: LayerBounds, number: int) -> Tensor | None:
        """Round ``number`` of descents: one from each clause's best point, the others from random linearisations."""
        hunt = self.hunt
        nearest = self.clause_margins.argsort()[: max(FEWEST_CLAUSES, MOST_CLAUSES >> number)]
        clauses = nearest.repeat(max(2, min(DESCENTS, hunt.most) // len(nearest)))
        for start, part in enumerate(clauses.split(hunt.most)):
            if hunt.deadline.passed:
                return None
            x = linearised(hunt.network, hunt.rough, bounds, self._rows(part), self.generator)
            if start == 0:
                own = min(len(nearest), len(part))
                x[:own] = self.points[nearest[:own]]
            found, clause_margins = descend(hunt, x, part)
            if found is not None:
                return found
            self.clause_margins = torch.fmin(self.clause_margins, clause_margins)
        return None

    def _rows(self, clauses: Tensor) -> Tensor:
        """A random weighting of the rows of each of the clauses ``(N,)``: ``(N, outputs)``."""
        claim = self.hunt.claim
        uniform = torch.rand((len(clauses), len(claim.C)), generator=self.generator).clamp(min=1e-6)
        weights = uniform.log().neg().to(clauses.device) * (claim.clauses.to(clauses) == clauses[:, None])
        return (weights / weights.sum(1, keepdim=True)) @ claim.C.to(weights)

    @torch.no_grad()
    def _try(self, x: Tensor) -> Tensor | None:
        """Whether one of the points ``(N, *shape)`` is a counterexample; the best of each clause are kept."""
        for part in x.split(self.hunt.most):
            margins = self.hunt.margins(part)
            found = self.hunt.confirmed(part, margins)
            if found is not None:
                return found
            clause_margins, positions = self.hunt.claim.clause_margins(margins).min(0)
            better = clause_margins < self.clause_margins
            self.clause_margins = torch.where(better, clause_margins, self.clause_margins)
            self.points[better] = part[positions[better]]
        return None
