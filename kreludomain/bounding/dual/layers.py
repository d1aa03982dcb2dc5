"""Layers refined one after the other: inner bounds by the dual, then the layer's octahedra and joint relaxations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.bounding.dual.abstraction import DualAbstraction
from kreludomain.bounding.dual.ascent import DualAscent
from kreludomain.bounding.dual.batches import ComputeOptions
from kreludomain.bounding.dual.combined import CombinedMultipliers
from kreludomain.deadline import Deadline
from kreludomain.domain import (
    Abstraction,
    Bounds,
    DeepPoly,
    InfeasibleBoundsError,
    Intersection,
    PriorBounds,
    Query,
)
from kreludomain.domain.relaxation import refinable_neurons
from kreludomain.groups import Grouping, JointRelaxation, relax_jointly
from kreludomain.property import Objective

#: Bounds all layers before the dual does; stable neurons need no more than their sign.
_DEEPPOLY = DeepPoly(neurons="unstable")

#: So many neurons of a layer are bounded under output constraints in any case, see :meth:`_Layers._worthwhile`.
_FEW = 100

_Joint = dict[str, tuple[JointRelaxation, ...]]


@dataclass(frozen=True)
class LayerOptions:
    """Steps of the ascent, for three kinds of objectives, and how groups are chosen and steps computed.

    ``steps``: for objectives of the abstraction that is made. ``inner_steps``: for the bounds of inner neurons (0: they
    stay DeepPoly's). ``octahedron_steps``: for directions of octahedra (0: by :class:`CombinedMultipliers`).
    """

    steps: int
    inner_steps: int
    octahedron_steps: int
    grouping: Grouping
    compute: ComputeOptions


def deeppoly_over(abstraction: Abstraction, prior_bounds: PriorBounds, deadline: Deadline) -> Abstraction:
    """DeepPoly of an abstraction's network and region with bounds that are known before."""
    query = Query(abstraction.network, abstraction.region, prior_bounds=prior_bounds, deadline=deadline)
    return _DEEPPOLY.abstract(query)


def deeppoly(query: Query) -> Abstraction:
    """DeepPoly as it comes before the dual."""
    return _DEEPPOLY.abstract(query)


def refine_layers(
    first: Abstraction,
    options: LayerOptions,
    deadline: Deadline,
    previous: DualAbstraction | None = None,
    objective: Objective | None = None,
    output_constraints: Objective | None = None,
) -> DualAbstraction:
    """``first``, with every layer's joint relaxations, and its bounds refined before if there are ``inner_steps``.

    A layer whose bounds are those of the ``previous`` abstraction keeps its relaxations, and so do all layers that are
    left when DeepPoly over the bounds so far proves all of the ``objective``, or at the deadline. With
    ``output_constraints``, bounds are over the inputs where none of them is positive: all layers act on each, those
    behind it by their previous relaxations. Raises :class:`InfeasibleBoundsError` where there are no such inputs.
    """
    return _Layers(first, options, deadline, previous, objective, output_constraints).refined()


@dataclass(frozen=True, eq=False)
class _Layers:
    """The arguments of :func:`refine_layers`."""

    first: Abstraction
    options: LayerOptions
    deadline: Deadline
    previous: DualAbstraction | None
    objective: Objective | None
    output_constraints: Objective | None

    def refined(self) -> DualAbstraction:
        base, joint = self.first, _Joint() if self.previous is None else _Joint(self.previous.joint)
        for node in base.network.pre_activations:
            if self.deadline.passed:
                break
            directions, unstable = base, self._unstable(base, node)
            if self._is_bounded(base, joint, node, unstable):
                dual = self._dual(base, joint, self.options.inner_steps)
                bounds, multipliers = dual.neurons(node, unstable, self.deadline, self.output_constraints)
                base = self._with_bounds(base, node, _intersected(base.bounds[node], unstable, bounds))
                if self._is_proved(base):
                    break
                if self.options.octahedron_steps or node in base.network.twins:  # of twins, differences are all
                    directions = self._dual(base, joint, self.options.octahedron_steps or self.options.inner_steps)
                else:
                    directions = CombinedMultipliers.of(
                        base, dual, node, unstable, multipliers, self.output_constraints
                    )
            elif self._is_unchanged(base, joint, node):
                continue
            memory_mb = self.options.compute.memory_mb
            joint[node] = relax_jointly(directions, node, self.options.grouping, memory_mb, self.deadline)
        return self._dual(base, joint, self.options.steps)

    def _unstable(self, base: Abstraction, node: str) -> Tensor:
        return refinable_neurons(base.network, node, base.bounds[node])[0].flatten().nonzero()[:, 0]

    def _is_bounded(self, base: Abstraction, joint: Mapping[str, object], node: str, unstable: Tensor) -> bool:
        """Whether the dual bounds a layer's neurons: where there are some, and relaxations that act on them."""
        if not self.options.inner_steps or not len(unstable):
            return False
        if self.output_constraints is None:
            return node != base.network.pre_activations[0]
        return bool(joint) and self._worthwhile(base, node, unstable)

    def _worthwhile(self, base: Abstraction, node: str, unstable: Tensor) -> bool:
        """Whether a layer is bounded under output constraints: not where it has more to bound than all layers behind
        it.

        That is a first convolution. Each of its neurons sees little of the input, and the outputs say little about it.
        """
        names = base.network.pre_activations
        behind = sum(int(base.bounds[name].unstable.sum()) for name in names[names.index(node) + 1 :])
        return len(unstable) <= max(behind, _FEW)

    def _with_bounds(self, base: Abstraction, node: str, bounds: Bounds) -> Abstraction:
        """DeepPoly over a layer's new bounds, intersected with the first abstraction: tighter bounds may flip a lower
        slope, which loosens others. Raises :class:`InfeasibleBoundsError` where it proves an output constraint wrong.
        """
        again = deeppoly_over(base, {**base.bounds, node: bounds}, self.deadline)
        if self.output_constraints is not None and bool((again.minimise(self.output_constraints).lower > 0).any()):
            raise InfeasibleBoundsError("output constraints: no input meets all of them")
        return Intersection(base.network, base.region, again.bounds, members=(self.first, again))

    def _is_proved(self, base: Abstraction) -> bool:
        return self.objective is not None and bool((base.minimise(self.objective).lower > 0).all())

    def _is_unchanged(self, base: Abstraction, joint: Mapping[str, object], node: str) -> bool:
        """Whether a layer has the bounds, and the joint relaxations, of the previous abstraction."""
        if self.previous is None or node not in joint:
            return False
        before, now = self.previous.bounds[node], base.bounds[node]
        return torch.equal(before.lower, now.lower) and torch.equal(before.upper, now.upper)

    def _dual(self, base: Abstraction, joint: _Joint, steps: int) -> DualAbstraction:
        return DualAbstraction(
            base.network,
            base.region,
            base.bounds,
            notes=base.notes,
            base=base,
            joint=dict(joint),
            ascent=DualAscent(steps),
            compute=self.options.compute,
        )


def _intersected(bounds: Bounds, indices: Tensor, found: Bounds) -> Bounds:
    """A layer's bounds, intersected with those ``(1, m)`` of the neurons ``indices`` ``(m,)``. Raises
    :class:`InfeasibleBoundsError` where they have no value in common."""
    slack = 1e-6 * (1.0 + torch.maximum(bounds.lower.abs(), bounds.upper.abs()).flatten(1)[:, indices])
    lower = torch.maximum(found.lower, bounds.lower.flatten(1)[:, indices])
    upper = torch.minimum(found.upper, bounds.upper.flatten(1)[:, indices])
    if bool((lower > upper + slack).any()):
        raise InfeasibleBoundsError("bounds cross: there are no such inputs")
    return bounds.tightened(indices, found.lower, found.upper)
