"""The optimiser of the vertex dual: Adam's steps on smoothed gradients, with annealed temperature and step size.

The minimum over a group's vertices is smoothed at a temperature that falls over the steps; so does the step size, while
momentum grows. Steps are in units of each slot's coefficient, and slopes are kept relative to DeepPoly's, so that what
changes in one layer carries through to those below it. ``docs/measurements.md`` records what was tried instead. Adam:
Kingma, Ba, "Adam: a method for stochastic optimization" (ICLR 2015).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.bounding.dual.multipliers import Multipliers
from kreludomain.bounding.dual.problem import DualProblem
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.options import Options
from kreludomain.property import Objective

#: ``bounds (m,) -> which objectives (m,) need no further steps``; the bounds are certified before one leaves.
StopRule = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DualAscent(Options):
    """How the dual is maximised, in a number of ``steps``.

    ``step_size`` and ``temperature`` are those of the first step, relative to the size of a slot's coefficient; they
    fall geometrically, the further the more steps there are, while momentum grows linearly (:meth:`at`). ``decay`` is
    that of the squared gradients. Every ``look_every`` steps, objectives that meet the stop rule leave.
    """

    steps: int = 100
    step_size: float = 0.3
    temperature: float = 0.3
    decay: float = 0.95
    look_every: int = 10

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.steps < 0:
            raise InputError(f"steps: {self.steps} is not a number from 0 up")

    def at(self, step: int) -> tuple[float, float, float]:
        """Step size, temperature and momentum of a step."""
        n, done = max(1, self.steps), step / max(1, self.steps - 1)
        first, last = max(0.85 - 15 / n, 0.0), min(max(1 - 5 / n, 0.8), 0.97)
        step_size = self.step_size * min(max(1 / n, 0.01), 2 / n, 1.0) ** done
        temperature = self.temperature * min(0.2 / n, 1.0) ** done
        return step_size, temperature, first + (last - first) * done


#: The first multipliers of the output constraints, in units of their scale.
_FIRST_CONSTRAINT = 0.3
#: The least size of coefficients that temperatures are relative to: far above where float32 ends.
_LEAST_SIZE = 1e-30


@torch.no_grad()
def maximise_dual(
    exact: DualProblem,
    fast: DualProblem,
    objective: Objective,
    ascent: DualAscent,
    stop_rule: StopRule | None = None,
    deadline: Deadline = Deadline(),
    start: Multipliers | None = None,
    split_penalty: Tensor | None = None,
) -> tuple[Tensor, Multipliers]:
    """Sound bounds ``(m,)`` of the objectives, and the multipliers that prove them.

    Steps are made on ``fast``, the problem in whatever dtype and on whatever device is quick; the bounds come from
    ``exact``, the same problem in float64. Without multipliers to ``start`` from, steps start from DeepPoly's slopes.
    ``split_penalty``: see :class:`GroupRelaxation`. At the deadline, the steps made by then count; where it has passed
    before, bounds are minus infinity.
    """
    if deadline.passed:
        nothing = objective.constant.new_full((objective.count,), -torch.inf)
        return nothing, Multipliers.zeros(fast.slots, fast.constraint_count, objective.count, nothing)
    if not fast.slots:  # nothing to choose
        none = Multipliers.zeros(0, fast.constraint_count, objective.count, objective.constant)
        return exact.certified(objective, none), none
    state = _AscentState(fast, objective, ascent, start, split_penalty)
    lower = objective.constant.new_full((objective.count,), -torch.inf)
    multipliers = Multipliers.zeros(fast.slots, fast.constraint_count, objective.count, lower)

    def certify(positions: Tensor) -> None:
        """Certifies the state's objectives at these of its positions."""
        rows, found = state.rows[positions], state.multipliers(positions)
        penalty = None if split_penalty is None else split_penalty.index_select(2, rows).to(lower)
        lower[rows] = exact.certified(objective.select(rows), found, penalty)
        multipliers.put(rows, found)

    for step in range(ascent.steps):
        if deadline.passed or not len(state.rows):
            break
        value = state.step(step)
        if stop_rule is not None and step % ascent.look_every == ascent.look_every - 1:
            estimate = lower.clone()
            estimate[state.rows] = value.to(lower)
            promising = stop_rule(estimate)[state.rows].nonzero()[:, 0]
            if len(promising):
                certify(promising)
                state.keep(~stop_rule(lower)[state.rows])
    certify(torch.arange(len(state.rows), device=state.rows.device))
    return lower, multipliers


class _AscentState:
    """The variables of an ascent, and its moments and scales, for the objectives that have not left.

    ``rows`` ``(m,)``: their positions, on the objectives' device; all else is where steps are made. ``variables``
    ``(2, S, m)``: allocations and slope offsets. ``constraint`` ``(p, m)``: the output constraints' multipliers.
    """

    def __init__(
        self,
        problem: DualProblem,
        objective: Objective,
        ascent: DualAscent,
        start: Multipliers | None = None,
        split_penalty: Tensor | None = None,
    ) -> None:
        self.problem, self.ascent = problem, ascent
        self.split_penalty = None if split_penalty is None else split_penalty.to(problem.region.lower)
        self.objective = objective.to(problem.region.lower)
        self.rows = torch.arange(objective.count, device=objective.constant.device)
        self.constraint_scale = scale = problem.constraint_scale(self.objective)
        self.constraint = scale * _FIRST_CONSTRAINT if start is None else start.constraint.to(scale)
        reference = problem.reference(self.objective, self.constraint)
        self.reference, size = reference.slope, reference.size
        self.variables = size.new_zeros(2, *size.shape)
        if start is not None:
            allocation, slope = start.allocation.to(size), start.slope.to(size)
            moved = Multipliers(allocation, slope, self.constraint)
            self.variables[0] = allocation
            self.variables[1] = problem.slope_offsets(self.objective, moved, self.reference)
        self.mean, self.square = torch.zeros_like(self.variables), torch.zeros_like(self.variables)
        self.constraint_mean = torch.zeros_like(self.constraint)
        self.constraint_square = torch.zeros_like(self.constraint)
        self.momentum_product = 1.0
        self.twin_slots = problem.twin_slots
        self.scale = self._step_scale(reference.at_stake)
        if len(self.twin_slots):
            second = self.twin_slots[:, 1]
            self.scale[second] = self._step_scale(size)[second]
        self.temperature_scale = reference.at_stake.mean(0).clamp(min=_LEAST_SIZE)

    def _step_scale(self, size: Tensor) -> Tensor:
        means = [layer.mean(0, keepdim=True).expand_as(layer) for layer in self.problem.per_activation(size).values()]
        return size / 2 + torch.cat(means)

    def _turned(self, slots: Tensor) -> Tensor:
        """Values ``(2, S, m)`` of slots, for twins turned into their sum and their difference; and back again.

        The sum of twins' slopes costs as much as their bounds are wide, the difference only what their difference is
        wide: steps are made in these directions, each in its own units.
        """
        if not len(self.twin_slots):
            return slots
        turned, (first, second) = slots.clone(), self.twin_slots.T
        turned[:, first] = (slots[:, first] + slots[:, second]) / math.sqrt(2)
        turned[:, second] = (slots[:, first] - slots[:, second]) / math.sqrt(2)
        return turned

    def step(self, number: int) -> Tensor:
        """Makes a step; returns the values ``(m,)`` from before it."""
        step_size, temperature, momentum = self.ascent.at(number)
        decay = self.ascent.decay
        value, gradient, by_constraint = self.problem.value_and_gradients(
            self.objective,
            self.variables,
            self.constraint,
            self.reference,
            temperature * self.temperature_scale,
            self.split_penalty,
        )
        gradient = self._turned(gradient)
        self.momentum_product *= momentum
        for point, scale, found, mean, square in (
            (self.variables, self.scale, gradient, self.mean, self.square),
            (self.constraint, self.constraint_scale, by_constraint, self.constraint_mean, self.constraint_square),
        ):
            mean.lerp_(found, 1 - momentum)
            square.mul_(decay).addcmul_(found, found, value=1 - decay)
            spread = (square / (1 - decay ** (number + 1))).sqrt_().add_(1e-8)
            direction, size = mean / spread, step_size / (1 - self.momentum_product)
            if point is self.variables and len(self.twin_slots):
                point.add_(self._turned(direction.mul_(scale)), alpha=size)
            else:
                point.addcmul_(direction, scale, value=size)
        self.constraint.clamp_(min=0)
        return value

    def multipliers(self, positions: Tensor) -> Multipliers:
        """The multipliers of the objectives at these positions, without reference to DeepPoly's slopes."""
        positions = positions.to(self.variables.device)
        # Where float32 overflowed, DeepPoly's slopes are as good as anything.
        allocation, offset = self.variables.index_select(2, positions).nan_to_num(0.0, 0.0, 0.0)
        constraint = self.constraint.index_select(1, positions).nan_to_num(0.0, 0.0, 0.0)
        return self.problem.multipliers(
            self.objective.select(positions),
            allocation,
            offset,
            constraint,
            self.reference.index_select(1, positions),
        )

    def keep(self, chosen: Tensor) -> None:
        """Goes on with the objectives of the mask ``chosen`` only."""
        self.rows = self.rows[chosen]
        positions = chosen.nonzero()[:, 0].to(self.variables.device)
        self.objective = self.objective.select(positions)
        self.temperature_scale = self.temperature_scale[positions]
        self.reference, self.scale, self.constraint_scale = (
            v.index_select(1, positions) for v in (self.reference, self.scale, self.constraint_scale)
        )
        self.constraint, self.constraint_mean, self.constraint_square = (
            v.index_select(1, positions) for v in (self.constraint, self.constraint_mean, self.constraint_square)
        )
        self.variables, self.mean, self.square = (
            v.index_select(2, positions) for v in (self.variables, self.mean, self.square)
        )
        if self.split_penalty is not None:
            self.split_penalty = self.split_penalty.index_select(2, positions)
