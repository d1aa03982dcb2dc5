"""A region as the vertex dual sees it: bounds of every node, and of any objective by multipliers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from kreludomain.bounding.dual.ascent import DualAscent, StopRule
from kreludomain.bounding.dual.batches import ComputeOptions, bound
from kreludomain.bounding.dual.grouped import grouped
from kreludomain.bounding.dual.multipliers import Multipliers
from kreludomain.bounding.dual.problem import DualProblem
from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction, Bounds, LowerBounds
from kreludomain.groups import JointRelaxation
from kreludomain.network.operators import Activation
from kreludomain.property import Objective


@dataclass(frozen=True, eq=False)
class DualAbstraction(Abstraction):
    """A base abstraction of one region, refined by the vertex dual over joint relaxations.

    ``joint`` has the joint relaxations of pre-activation nodes by name; neurons in none are relaxed alone. ``ascent``
    says how the dual is maximised, ``compute`` where.
    """

    base: Abstraction = field(kw_only=True)
    joint: Mapping[str, tuple[JointRelaxation, ...]] = field(kw_only=True)
    ascent: DualAscent = field(kw_only=True)
    compute: ComputeOptions = field(kw_only=True)
    _problems: dict[str, DualProblem] = field(default_factory=dict, kw_only=True)

    def problem(self, node: str) -> DualProblem:
        """The dual over everything below a node, in float64."""
        if node not in self._problems:
            relaxations = {}
            for activation in self.network.ancestors(node):
                if isinstance(activation.operator, Activation):
                    source, function = activation.inputs[0], activation.operator.function
                    joint = self.joint.get(source, ())
                    relaxations[activation.name] = grouped(function, self.bounds[source], joint)
            self._problems[node] = DualProblem(self.network, self.region, relaxations, self.rounding)
        return self._problems[node]

    def problem_under(self, output_constraints: Objective | None, node: str) -> DualProblem:
        """The dual for objectives at a node, over the inputs where no output constraint is positive (``None``: over all
        of them)."""
        if output_constraints is None:
            return self.problem(node)
        return self.problem(output_constraints.node).constrained_by(output_constraints)

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """Certified bounds, never below the base's; steps end at the deadline."""
        return self.base.minimise(objective, deadline) | self._by_dual(objective, None, deadline)

    def prove(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        """As :meth:`minimise`, but the dual is maximised only for the objectives that the base does not prove, each
        until its bound is positive."""
        by_base = self.base.prove(objective, deadline)
        rows = (~(by_base.lower[0] > 0)).nonzero()[:, 0]
        lower = by_base.lower.clone()
        if len(rows):
            by_dual = self._by_dual(objective.select(rows), lambda bounds: bounds > 0, deadline)
            lower[0, rows] = torch.fmax(lower[0, rows], by_dual.lower[0])
        return LowerBounds(lower, by_base.notes)

    def neurons(
        self, node: str, indices: Tensor, deadline: Deadline = Deadline(), output_constraints: Objective | None = None
    ) -> tuple[Bounds, Multipliers]:
        """Bounds ``(1, m)`` of the neurons at flat positions ``indices`` ``(m,)``, and multipliers that prove them.

        The multipliers are of ``2 m`` objectives: lower and upper bound of each neuron in turn. Steps for a neuron end
        when its sign is decided, unless a smooth activation takes it. With ``output_constraints``, bounds are over the
        inputs where none of them is positive.
        """
        stop_rule = None if self.network.feeds_smooth(node) else _sign_decided
        neurons = Objective.neurons(self.network, node, indices)
        coefficients, constant = (
            torch.stack([v, -v], dim=2).flatten(1, 2) for v in (neurons.coefficients, neurons.constant)
        )
        objective = Objective(node, coefficients, constant).pulled_back(self.network)
        problem = self.problem_under(output_constraints, objective.node)
        lower, multipliers = bound(problem, objective, self.ascent, self.compute, stop_rule, deadline, block=2)
        return Bounds.computed(lower[None, 0::2], -lower[None, 1::2]), multipliers

    def _by_dual(self, objective: Objective, stop_rule: StopRule | None, deadline: Deadline) -> LowerBounds:
        objective = objective.pulled_back(self.network)
        lower, _ = bound(self.problem(objective.node), objective, self.ascent, self.compute, stop_rule, deadline)
        return LowerBounds(lower[None])


def _sign_decided(lower: Tensor) -> Tensor:
    """Whether one of a neuron's two bounds, ``x`` and ``-x`` from below in turn, is positive."""
    return (lower > 0).view(-1, 2).any(1).repeat_interleave(2)
