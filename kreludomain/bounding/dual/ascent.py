"""The optimiser of the vertex dual: smoothed gradients, Adam's steps, and everything annealed.

The minimum over a group's vertices is smoothed at a temperature that falls over the steps; so does the step size, while
momentum grows. Steps are in units of each slot's coefficient, and slopes are kept relative to DeepPoly's, so that what
changes in one layer carries through those below it. ``docs/measurements.md`` records what was tried instead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.bounding.dual.problem import DualProblem, Multipliers
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.options import Options
from kreludomain.property import Objective

#: ``bounds (m,) -> which objectives (m,) need no further steps``; the bounds are certified before one leaves.
StopRule = Callable[[Tensor], Tensor]


@dataclass(frozen=True)
class DualAscent(Options):
    """How the dual is climbed in a number of ``steps``.

    ``step_size`` and ``temperature`` are those of the first step, relative to the size of a slot's coefficient; they
    fall geometrically, the further the more steps there are (:meth:`at`), while momentum grows linearly. ``decay`` is
    that of the squared gradients. Every ``look_every`` steps, objectives that are stop_rule leave.
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
        """BackwardRelaxation size, temperature and momentum of a step."""
        n, done = max(1, self.steps), step / max(1, self.steps - 1)
        first, last = max(0.85 - 15 / n, 0.0), min(max(1 - 5 / n, 0.8), 0.97)
        step_size = self.step_size * min(max(1 / n, 0.01), 2 / n, 1.0) ** done
        temperature = self.temperature * min(0.2 / n, 1.0) ** done
        return step_size, temperature, first + (last - first) * done


#: The output constraints' part at first, of what is worth the objective.
_AT_FIRST = 0.3
#: The least size of coefficients that temperatures are relative to: far above where float32 ends.
_LEAST = 1e-30


@torch.no_grad()
def maximise_dual(
    exact: DualProblem,
    fast: DualProblem,
    objective: Objective,
    ascent: DualAscent,
    stop_rule: StopRule | None = None,
    deadline: Deadline = Deadline(),
    start: Multipliers | None = None,
    removal: Tensor | None = None,
) -> tuple[Tensor, Multipliers]:
    """Sound bounds ``(m,)`` of the objectives, and the multipliers that prove them.

    ``removal`` (see :class:`GroupRelaxation`): what the splits of each objective's subproblem leave out.

    Steps are made on ``fast``, the problem in whatever dtype and on whatever device is quick; the bounds come from
    ``exact``, the same problem in float64. Where multipliers are known to ``start`` from, they are better than
    DeepPoly's slopes. At the deadline, the steps made by then count; where it has passed before, nothing is bounded.
    """
    if deadline.passed:
        nothing = objective.constant.new_full((objective.count,), -torch.inf)
        return nothing, Multipliers.zeros(fast.slots, fast.constraint_count, objective.count, nothing)
    if not fast.slots:  # nothing to choose
        none = Multipliers.zeros(0, fast.constraint_count, objective.count, objective.constant)
        return exact.certified(objective, none), none
    climber = _Climber(fast, objective, ascent, start, removal)
    lower = objective.constant.new_full((objective.count,), -torch.inf)
    proofs = Multipliers.zeros(fast.slots, fast.constraint_count, objective.count, lower)

    def certify(positions: Tensor) -> None:
        """Certifies the climber's objectives at these of its positions."""
        rows, found = climber.rows[positions], climber.multipliers(positions)
        left = None if removal is None else removal.index_select(2, rows).to(lower)
        lower[rows] = exact.certified(objective.select(rows), found, left)
        proofs.put(rows, found)

    for step in range(ascent.steps):
        if deadline.passed or not len(climber.rows):
            break
        value = climber.step(step)
        if stop_rule is not None and step % ascent.look_every == ascent.look_every - 1:
            guess = lower.clone()
            guess[climber.rows] = value.to(lower)
            promising = stop_rule(guess)[climber.rows].nonzero()[:, 0]
            if len(promising):
                certify(promising)
                climber.keep(~stop_rule(lower)[climber.rows])
    certify(torch.arange(len(climber.rows), device=climber.rows.device))
    return lower, proofs


class _Climber:
    """The state of an ascent: ``theta`` ``(2, S, m)``, splits and offsets, and the output constraints' ``weight`` ``(p,
    m)``, of the objectives ``rows`` ``(m,)``.

    ``rows`` are where the objectives are, all else is where steps are made.
    """

    def __init__(
        self,
        problem: DualProblem,
        objective: Objective,
        ascent: DualAscent,
        start: Multipliers | None = None,
        removal: Tensor | None = None,
    ) -> None:
        self.problem, self.ascent = problem, ascent
        self.removal = None if removal is None else removal.to(problem.region.lower)
        self.objective = objective.to(problem.region.lower)
        self.rows = torch.arange(objective.count, device=objective.constant.device)
        self.exchange = problem.exchange(self.objective)
        self.weight = self.exchange * _AT_FIRST if start is None else start.weight.to(self.exchange)
        begin = problem.start(self.objective, self.weight)
        self.reference, size = begin.reference, begin.size
        self.theta = size.new_zeros(2, *size.shape)
        if start is not None:
            split, slope = start.split.to(size), start.slope.to(size)
            self.theta[0] = split
            self.theta[1] = problem.offsets(self.objective, Multipliers(split, slope, self.weight), self.reference)
        self.mean, self.square, self.memory = torch.zeros_like(self.theta), torch.zeros_like(self.theta), 1.0
        self.weight_mean, self.weight_square = torch.zeros_like(self.weight), torch.zeros_like(self.weight)
        means = [layer.mean(0, keepdim=True).expand_as(layer) for layer in problem.per_activation(size).values()]
        self.scale = size / 2 + torch.cat(means)
        self.unit = size.mean(0).clamp(min=_LEAST)

    def step(self, number: int) -> Tensor:
        """Makes a step; returns the values ``(m,)`` from before it."""
        step_size, temperature, momentum = self.ascent.at(number)
        decay = self.ascent.decay
        value, gradient, of_weight = self.problem.ascent(
            self.objective, self.theta, self.weight, self.reference, temperature * self.unit, self.removal
        )
        self.memory *= momentum
        for point, scale, found, mean, square in (
            (self.theta, self.scale, gradient, self.mean, self.square),
            (self.weight, self.exchange, of_weight, self.weight_mean, self.weight_square),
        ):
            mean.lerp_(found, 1 - momentum)
            square.mul_(decay).addcmul_(found, found, value=1 - decay)
            spread = (square / (1 - decay ** (number + 1))).sqrt_().add_(1e-8)
            point.addcmul_(mean / spread, scale, value=step_size / (1 - self.memory))
        self.weight.clamp_(min=0)
        return value

    def multipliers(self, positions: Tensor) -> Multipliers:
        """What theta means, without reference to where it started, for the objectives at these positions."""
        positions = positions.to(self.theta.device)
        # Where float32 overflowed, DeepPoly's slopes are as good as anything.
        split, offset = self.theta.index_select(2, positions).nan_to_num(0.0, 0.0, 0.0)
        weight = self.weight.index_select(1, positions).nan_to_num(0.0, 0.0, 0.0)
        return self.problem.multipliers(
            self.objective.select(positions), split, offset, weight, self.reference.index_select(1, positions)
        )

    def keep(self, chosen: Tensor) -> None:
        """Goes on with the chosen objectives only."""
        self.rows = self.rows[chosen]
        positions = chosen.nonzero()[:, 0].to(self.theta.device)
        self.unit = self.unit[positions]
        self.objective = self.objective.select(positions)
        self.reference, self.scale, self.exchange, self.weight, self.weight_mean, self.weight_square = (
            v.index_select(1, positions)
            for v in (self.reference, self.scale, self.exchange, self.weight, self.weight_mean, self.weight_square)
        )
        self.removal = None if self.removal is None else self.removal.index_select(2, positions)
        self.theta, self.mean, self.square = (
            v.index_select(2, positions) for v in (self.theta, self.mean, self.square)
        )
