"""Bounds over the inputs where a clause fails: if there are none, the clause holds.

A clause fails where none of its rows is positive. These are constraints on the outputs, and inner bounds that use them
are tighter (INVPROP: Kotha, Brix, Kolter, Dvijotham, Zhang, "Provably bounding neural network preimages", NeurIPS
2023).
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

import torch
from torch import Tensor

from kreludomain.bounding.dual.abstraction import DualAbstraction
from kreludomain.bounding.dual.layers import LayerOptions, deeppoly_over, refine_layers
from kreludomain.deadline import Deadline
from kreludomain.domain import InfeasibleBoundsError, PriorBounds
from kreludomain.property import Objective

#: How far above zero a clause's rows may be where it is assumed to fail, relative to their bounds; if that leads to a
#: contradiction, they exceed it.
_MARGIN = 1e-3
#: The part of a row's range, from its lower bound to its upper, that may lie below zero. Measured: up to 0.05 one pass
#: proves the row, about 0.1 some do, from 0.28 on nothing is gained (MNIST ConvSmall and 6x100, docs/measurements.md).
_LARGEST_NEGATIVE_PART = 0.25
#: How many times the last pass's gain the next one may be expected to gain, if there is a contradiction to be found.
_LARGEST_GAIN_FACTOR = 3.0


@dataclass(frozen=True, eq=False)
class ConstrainedBounds:
    """Bounds over the inputs where all rows of a clause are at most ``at_most``, a positive number.

    ``abstraction`` is of these inputs (``None``: there are none), ``lower`` ``(p,)`` are the rows' bounds there.
    """

    abstraction: DualAbstraction | None
    lower: Tensor
    at_most: float

    @property
    def proved(self) -> bool:
        """Whether the clause holds everywhere: no input has all rows at most ``at_most``, or a row is positive on all
        that have."""
        return self.abstraction is None or bool((self.lower > 0).any())

    @property
    def everywhere(self) -> Tensor:
        """Bounds over the whole region, ``(1,)``, of the row of a clause that has one."""
        if self.abstraction is None:
            return torch.full_like(self.lower, self.at_most / 2)
        return self.lower.clamp(max=self.at_most / 2)


def refine_under(
    abstraction: DualAbstraction,
    clause: Objective,
    lower: Tensor,
    passes: int,
    options: LayerOptions,
    deadline: Deadline = Deadline(),
) -> ConstrainedBounds:
    """A clause by contradiction: all layers are bounded over the inputs where all its rows fail, in several passes.

    ``lower`` ``(p,)`` are bounds of the clause's rows over the region of ``abstraction``. There are at most ``passes``;
    none where too large a part of every row's range is negative, and no further one where the last one gained too
    little. Ends when a row's bound is positive, or bounds show that there are no such inputs.
    """
    clause = clause.pulled_back(abstraction.network)
    # Far above the rounding errors of the constants.
    at_most = max(_MARGIN * float(lower.max().abs()), 1e-9 * (1 + float(clause.constant.abs().max())))
    output_constraints = replace(clause, constant=clause.constant - at_most)
    gain = math.inf
    negative_part = -lower / (abstraction.base.extrema(clause).upper[0].to(lower) - lower)
    if not bool((negative_part < _LARGEST_NEGATIVE_PART).any()):
        passes = 0
    for done in range(passes):
        missing = -float(lower.max())
        if deadline.passed or not missing < _LARGEST_GAIN_FACTOR * gain * (passes - done):
            break
        try:
            refined = refine_pass(abstraction, output_constraints, options, deadline)
            found = refined.prove(clause, deadline).lower[0]
        except InfeasibleBoundsError:
            return ConstrainedBounds(None, lower, at_most)
        if deadline.passed:
            break
        abstraction, lower = refined, torch.fmax(found, lower)
        gain = float(lower.max()) + missing
        if bool((lower > 0).any()):
            break
    return ConstrainedBounds(abstraction, lower, at_most)


def refine_pass(
    abstraction: DualAbstraction,
    output_constraints: Objective,
    options: LayerOptions,
    deadline: Deadline,
    prior_bounds: PriorBounds | None = None,
) -> DualAbstraction:
    """The inputs where no output constraint is positive, with all layers bounded again, once, by half the inner steps.

    ``abstraction`` is one of these inputs, ``prior_bounds`` are bounds that are tighter than its own. A prior bound of
    0 is a split: the neuron stays in its groups, so that all layers gain from it. Raises :class:`InfeasibleBoundsError`
    where bounds show that there are no such inputs.
    """
    prior_bounds = abstraction.bounds if prior_bounds is None else prior_bounds
    first = deeppoly_over(abstraction, prior_bounds, deadline)
    options = replace(options, inner_steps=options.inner_steps // 2, octahedron_steps=0)
    return refine_layers(first, options, deadline, abstraction, output_constraints=output_constraints)
