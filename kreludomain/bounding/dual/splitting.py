"""Subproblems of the vertex dual: the parts of a region where some neurons' signs are decided.

A decided sign excludes the vertices on the other side from the neuron's groups, so that their slopes act as the
multiplier of the split (beta-CROWN's beta: Wang et al., NeurIPS 2021); nothing else changes. A subproblem is then a
column of signs, any number of them are bounded in one batch, and multipliers that prove a bound for a subproblem prove
it for every part of the subproblem.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.bounding.dual.ascent import DualAscent, StopRule, maximise_dual
from kreludomain.bounding.dual.batches import ComputeOptions
from kreludomain.bounding.dual.multipliers import Multipliers
from kreludomain.bounding.dual.problem import DualProblem
from kreludomain.bounding.dual.step import SPLIT_PENALTY, InputRelaxation
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
        """The subproblems of a problem in float64, with steps as ``compute`` says."""
        return cls(problem, compute.fast(problem))

    @cached_property
    def neurons(self) -> int:
        """How many neurons all activations have, ``N``."""
        return sum(relaxation.size for relaxation in self.exact.relaxations.values())

    @cached_property
    def _neuron(self) -> Tensor:
        """The neuron of each slot, ``(S,)``."""
        relaxations = list(self.exact.relaxations.values())
        firsts = itertools.accumulate((r.size for r in relaxations), initial=0)
        return torch.cat([r.neuron + first for r, first in zip(relaxations, firsts, strict=False)])

    @cached_property
    def splittable(self) -> Tensor:
        """Which neurons can be split, ``(N,)``: those of ReLUs whose sign is open over the whole region."""
        return torch.cat([r.splittable for r in self.fast.relaxations.values()])

    @cached_property
    def intercepts(self) -> Tensor:
        """Where each neuron's chord meets the axis, ``(N, 1)``: its largest loss; 0 where it cannot be split."""
        parts = [torch.where(r.splittable, r.upper_intercept, 0.0) for r in self.fast.relaxations.values()]
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
        penalty = self._split_penalty(signs).to(self.fast.region.lower)
        return maximise_dual(self.exact, self.fast, objective, ascent, stop_rule, deadline, start, penalty)

    def branching_scores(self, objective: Objective, signs: Tensor, multipliers: Multipliers) -> tuple[Tensor, Tensor]:
        """How much each neuron promises to gain when it is split, and inputs to look for counterexamples at.

        Scores ``(N, m)``, 0 where there is nothing to split: the coefficient on a neuron times its chord's intercept,
        the largest loss by the neuron's relaxation (BaBSR; Bunel et al., JMLR 2020, section 5.2; here with the
        coefficients of the optimised joint relaxation). Inputs ``(m, *input_shape)``: where the relaxed network's
        minimum is.
        """
        like = self.fast.region.lower
        objective, name = objective.to(like), self.fast.network.input.name
        relaxations = self.fast.group_relaxations(multipliers.allocation.to(like), multipliers.slope.to(like))
        start = InputRelaxation(self.fast.region)
        back_substitute(self.fast.network, objective, {**relaxations, name: start}, self.fast.region, None)
        above = torch.cat([r.relaxation.summed(r.parts / r.relaxation.slot_scale) for r in relaxations.values()])
        scores = (above.clamp(max=0) * -self.intercepts).masked_fill(signs.to(like.device) != 0, 0.0)
        return scores.to(signs.device), start.point()

    def _split_penalty(self, signs: Tensor) -> Tensor:
        """The penalty on the sides that signs exclude, ``(2, S, m)``: see :class:`GroupRelaxation`."""
        slots = signs.index_select(0, self._neuron)
        return torch.stack([slots > 0, slots < 0]).to(torch.float32) * SPLIT_PENALTY
