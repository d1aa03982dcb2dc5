"""Subproblems of the vertex dual: the parts of a region where some neurons' signs are decided.

Deciding a sign removes the vertices of the other side from the neuron's groups, and lets their slopes act as the
split's multiplier; nothing else changes. So a subproblem is a column of signs, any number of them are climbed in one
batch, and what proves a bound for a subproblem proves it for every part of that.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.bounding.dual.ascent import DualAscent, StopRule, maximise_dual
from kreludomain.bounding.dual.batches import ComputeOptions
from kreludomain.bounding.dual.problem import DualProblem, Multipliers
from kreludomain.bounding.dual.step import REMOVED, InputRelaxation
from kreludomain.deadline import Deadline
from kreludomain.domain.backward import back_substitute
from kreludomain.property import Objective


@dataclass(frozen=True, eq=False)
class SplitDual:
    """A dual problem over subproblems. ``signs`` ``(N, m)``, int8: 1 where a neuron is positive in subproblem ``m``,
    -1 where it is negative, 0 where that is open, over the neurons of all activations in order.

    ``exact`` is in float64; steps are made on ``fast``.
    """

    exact: DualProblem
    fast: DualProblem

    @classmethod
    def of(cls, problem: DualProblem, compute: ComputeOptions) -> SplitDual:
        return cls(problem, compute.fast(problem))

    @cached_property
    def neurons(self) -> int:
        """``N``: the neurons of all activations."""
        return sum(len(relaxation.unit) for relaxation in self.exact.relaxations.values())

    @cached_property
    def _neuron(self) -> Tensor:
        """The neuron of each slot, ``(S,)``."""
        relaxations = list(self.exact.relaxations.values())
        firsts = itertools.accumulate((len(r.unit) for r in relaxations), initial=0)
        return torch.cat([r.neuron + first for r, first in zip(relaxations, firsts, strict=False)])

    @cached_property
    def _intercept(self) -> Tensor:
        """Where each neuron's chord meets the axis, ``(N, 1)``: what it loses at most; 0 where it cannot be split."""
        parts = [torch.where(r.splittable, r.intercept, 0.0) for r in self.fast.relaxations.values()]
        return torch.cat(parts)[:, None]

    def solve(
        self,
        objective: Objective,
        signs: Tensor,
        ascent: DualAscent,
        start: Multipliers | None = None,
        stop_rule: StopRule | None = None,
        deadline: Deadline = Deadline(),
    ) -> tuple[Tensor, Multipliers]:
        """Sound bounds ``(m,)`` of each objective over its subproblem, and the multipliers that prove them."""
        removal = self._removal(signs).to(self.fast.region.lower)
        return maximise_dual(self.exact, self.fast, objective, ascent, stop_rule, deadline, start, removal)

    def branching_scores(self, objective: Objective, signs: Tensor, multipliers: Multipliers) -> tuple[Tensor, Tensor]:
        """How much each neuron promises to gain when it is split, and inputs to look for counterexamples at.

        Scores ``(N, m)``, 0 where there is nothing to split: the coefficient on a neuron times its chord's intercept,
        which is what the relaxation of that neuron can cost (BaBSR; Bunel et al., JMLR 2020, section 5.2; here with
        the coefficients of the optimised joint relaxation). Inputs ``(m, *input_shape)``: where the relaxed network's
        minimum is.
        """
        like = self.fast.region.lower
        objective, name = objective.to(like), self.fast.network.input.name
        steps = self.fast.steps(multipliers.split.to(like), multipliers.slope.to(like))
        start = InputRelaxation(self.fast.region)
        back_substitute(self.fast.network, objective, {**steps, name: start}, self.fast.region, None)
        above = torch.cat([step.relaxation.summed(step.parts / step.relaxation.slot_unit) for step in steps.values()])
        scores = (above.clamp(max=0) * -self._intercept).masked_fill(signs.to(like.device) != 0, 0.0)
        return scores.to(signs.device), start.point()

    def _removal(self, signs: Tensor) -> Tensor:
        """What the signs remove, ``(2, S, m)``: see :class:`GroupRelaxation`."""
        slots = signs.index_select(0, self._neuron)
        return torch.stack([slots > 0, slots < 0]).to(torch.float32) * REMOVED
