"""What rounding can do to a linear expression on its way backwards.

Coefficients that a step computes are off by little of what went into them, but what went in may cancel: the sum of
``W_ij a_i`` over ``i`` is off by at most ``gamma_n`` times the sum of ``|W_ij a_i|`` (Higham, *Accuracy and Stability
of Numerical Algorithms*, 2002, section 3.1), which has nothing to do with how large the sum is. For values ``|x| <= r``
that is worth at most ``gamma_n |a| . (|W| r)``, and ``|W| r`` is a vector of the node that no expression changes. The
product is at most that of both lengths, so what a step may have taken from an expression costs one norm. Every step is
accounted for with the coefficients that it was really given, so nothing is left over of higher order.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.domain.bounds import Bounds
from kreludomain.network import Network, Node
from kreludomain.network.operators import Activation, AffineOperator, Input, PairMaximum
from kreludomain.property import Objective
from kreludomain.rounding import gamma


@dataclass(frozen=True, eq=False)
class Rounding:
    """What each node's step may be off by, for values within ``bounds``; their lengths are computed when first needed.

    A step is an affine operator's transpose, an activation's lines, which are no steeper than its function, or a
    maximum's sum and the larger upper bound of what it compares. What regions, constants and vertices are off by is
    allowed for where they are.

    An activation below affine operators only is accounted for with the coefficients above those: its own are at most
    theirs through the absolute weights. That is one product a layer instead of two.
    """

    network: Network
    bounds: Mapping[str, Bounds]
    _lengths: dict[str, Tensor | None] = field(default_factory=dict)
    _starts: dict[str, Tensor] = field(default_factory=dict)

    def of_step(self, node: Node, coefficients: Tensor) -> Tensor | float:
        """What passing ``coefficients`` ``(B or 1, m, *shape)`` backwards through a node may be off by, ``(B, m)``.

        Without that of an activation which goes with the affine operators above it.
        """
        if node.name not in self._lengths:
            vector = self._vector(node)
            self._lengths[node.name] = None if vector is None else _length(vector[:, None])
        length = self._lengths[node.name]
        return 0.0 if length is None else _length(coefficients) * length

    def of_start(self, objective: Objective) -> Tensor | float:
        """What an objective's way to its node may be off by, ``(B, m)``, and the step of an activation there."""
        node = self.network[objective.node]
        if not objective.pullback_history and self._goes_with_what_is_above(node):
            if node.name not in self._starts:
                self._starts[node.name] = _length(self._of_activation(node)[:, None])
            return _length(objective.coefficients) * self._starts[node.name]
        return sum((self.of_step(self.network[name], a) for name, a in objective.pullback_history), start=0.0)

    def of_sum(self, name: str, coefficients: Tensor) -> Tensor:
        """What adding two expressions at a node may be off by, from the sum."""
        return _length(coefficients) * _length(gamma(1) * self.reach(name)[:, None])

    def reach(self, name: str) -> Tensor:
        """The largest magnitude of each value of a node, ``(B, *shape)``."""
        return torch.maximum(self.bounds[name].lower.abs(), self.bounds[name].upper.abs())

    def _vector(self, node: Node) -> Tensor | None:
        """What each unit of coefficient may be off by, ``(B, *shape)``; ``None`` where it is nothing."""
        operator = node.operator
        if isinstance(operator, Input) or self._goes_with_what_is_above(node):
            return None
        if not isinstance(operator, AffineOperator):
            return self._of_activation(node)
        inputs = [self.network[name] for name in node.inputs]
        below = [self._goes_with_what_is_above(source) for source in inputs]
        if not operator.accumulation_length and not any(below):
            return None
        own = gamma(operator.accumulation_length) if operator.accumulation_length else 0.0
        parts = (
            own * self.reach(source.name) + (self._of_activation(source) if activation else 0.0)
            for source, activation in zip(inputs, below, strict=True)
        )
        vector = operator.abs_linear(*parts)
        if operator.offset is not None:
            vector = vector + gamma(math.prod(node.shape)) * operator.offset.abs()
        if isinstance(operator, PairMaximum):  # upper bounds are added up over the layer
            compared = self.reach(node.inputs[0]) + self.reach(node.inputs[1])
            vector = vector + gamma(math.prod(node.shape)) * compared
        return vector

    def _of_activation(self, node: Node) -> Tensor:
        # Slopes and what lines are worth at zero are rounded, and the latter are added up over the layer.
        steepest = node.operator.function.lipschitz if isinstance(node.operator, Activation) else 1.0
        reach = self.reach(node.name) + steepest * self.reach(node.inputs[0])
        return gamma(math.prod(node.shape)) * reach

    def _goes_with_what_is_above(self, node: Node) -> bool:
        return isinstance(node.operator, Activation) and node.name not in self._activated

    @cached_property
    def _activated(self) -> frozenset[str]:
        """The nodes that something takes which is not affine."""
        consumers = (node for node in self.network.nodes if not isinstance(node.operator, AffineOperator))
        return frozenset(name for node in consumers for name in node.inputs)


def _length(coefficients: Tensor) -> Tensor:
    """The Euclidean norm of each expression, ``(B or 1, m)``, from ``(B or 1, m, *shape)``."""
    length: Tensor = torch.linalg.vector_norm(coefficients.flatten(2), dim=2)
    return length
