"""Directions of octahedra bounded without an ascent: by sums of the multipliers that bound their neurons."""

from __future__ import annotations

from dataclasses import dataclass, field

import torch
from torch import Tensor

from kreludomain.bounding.dual.abstraction import DualAbstraction
from kreludomain.bounding.dual.batches import ComputeOptions
from kreludomain.bounding.dual.multipliers import Multipliers
from kreludomain.bounding.dual.problem import DualProblem
from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, Bounds, LowerBounds
from kreludomain.property import Objective


@dataclass(frozen=True, eq=False)
class CombinedMultipliers(Abstraction):
    """``base``, with expressions at one node bounded by sums of the multipliers of the node's neurons as well.

    Multipliers of ``x_a`` plus those of ``x_b`` are multipliers of ``x_a + x_b``. What they prove is never worse than
    the sum of both bounds, and takes one evaluation. ``multipliers`` are of the lower and the upper bound of some
    neurons in turn, over ``problem``; ``columns`` ``(n,)`` has the position of each neuron of ``node`` among these
    (-1: it is none of them).
    """

    base: Abstraction = field(kw_only=True)
    node: str = field(kw_only=True)
    problem: DualProblem = field(kw_only=True)
    multipliers: Multipliers = field(kw_only=True)
    columns: Tensor = field(kw_only=True)
    compute: ComputeOptions = field(kw_only=True)

    @classmethod
    def of(
        cls,
        base: Abstraction,
        dual: DualAbstraction,
        node: str,
        neurons: Tensor,
        multipliers: Multipliers,
        output_constraints: Objective | None = None,
    ) -> CombinedMultipliers:
        """``base`` with the ``multipliers`` that ``dual.neurons(node, neurons)`` returned."""
        network = base.network
        columns = torch.full((network.size(node),), -1, dtype=torch.int64, device=neurons.device)
        columns[neurons] = torch.arange(len(neurons), device=neurons.device)
        pulled = Objective.neurons(network, node, neurons[:1]).pulled_back(network)
        return cls(
            network,
            base.region,
            base.bounds,
            base=base,
            node=node,
            problem=dual.problem_under(output_constraints, pulled.node),
            multipliers=multipliers,
            columns=columns,
            compute=dual.compute,
        )

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        return self._lower(objective, objective.pulled_back(self.network), deadline)

    def extrema(self, objective: Objective, deadline: Deadline = Deadline()) -> Bounds:
        pulled = objective.pulled_back(self.network)
        lower, upper = self._lower(objective, pulled, deadline), self._lower(-objective, -pulled, deadline)
        return Bounds(lower.lower, -upper.lower)

    def _lower(self, objective: Objective, pulled: Objective, deadline: Deadline) -> LowerBounds:
        """Bounds of the objectives, which ``pulled`` are as well, pulled back."""
        by_base = self.base.minimise(pulled, deadline)
        if objective.node != self.node or deadline.passed:
            return by_base
        most = self.compute.rows(self.problem)
        parts = zip(objective.chunks(most), pulled.chunks(most), strict=True)
        return by_base | LowerBounds(torch.cat([self._by_sums(*part) for part in parts])[None])

    def _by_sums(self, objective: Objective, pulled: Objective) -> Tensor:
        """Certified bounds ``(m,)`` by the sums of the neurons' multipliers, each times its coefficient's size."""
        rows = objective.coefficients[0].flatten(1)
        most = max(1, int((rows != 0).sum(1).max()))
        size, neuron = rows.abs().topk(most, dim=1)
        negative = rows.gather(1, neuron) < 0  # then the neuron's upper bound is needed
        column = torch.where(self.columns[neuron] >= 0, 2 * self.columns[neuron] + negative.long(), -1)
        total = self.multipliers.combine(column.clamp(min=0), torch.where(column >= 0, size, 0.0))
        return self.problem.certified(pulled, total)
