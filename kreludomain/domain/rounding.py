"""Bounds of the rounding errors of back-substitution.

The sum of ``W_ij a_i`` over ``i`` is off by at most ``gamma_n`` times the sum of ``|W_ij a_i|`` (Higham, *Accuracy and
Stability of Numerical Algorithms*, 2002, section 3.1), however small the sum itself is: terms may cancel. For values
``|x| <= r``, the expression ``(W^T a) . x`` is then off by at most ``gamma_n |a| . (|W| r)``. The vector ``|W| r``
belongs to the node and is the same for all expressions, and the product is at most that of both Euclidean norms
(Cauchy-Schwarz), so an expression's error at a node costs one norm. Each node's error is computed from the coefficients
that were really passed to it, with their own rounding, so no terms of higher order are neglected.
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


def may_underflow(network: Network, *others: Tensor) -> bool:
    """Whether a bound of exactly 0 may stand for a number below 0, since products underflowed to it.

    Not if the product of the smallest magnitudes other than 0, of each node's weights and of each of the ``others``
    (a region's inputs, a claim's entries), is far from where float64 ends: then no product of them underflows.
    """
    factors = [
        *others,
        *(t for node in network.nodes for t in node.operator.tensors().values() if t.is_floating_point()),
    ]
    return sum(math.log10(_smallest(t)) for t in factors) < -290


def _smallest(values: Tensor) -> float:
    """The smallest magnitude that is not 0, at most 1."""
    magnitude = values.abs()
    return float(torch.where(magnitude > 0, magnitude, 1.0).min().clamp(max=1.0)) if magnitude.numel() else 1.0


@dataclass(frozen=True, eq=False)
class Rounding:
    """The largest error of passing expressions through each node, for values within ``bounds``.

    It covers an affine operator's transpose, an activation's lines, which are no steeper than its function, and a
    maximum's sum and cap. Errors of regions, constants and vertices are allowed for where those are computed.

    Where only affine operators take an activation's value, its error is computed together with theirs, from the
    coefficients on their values: those on the activation are at most these times the absolute weights. That is one norm
    a layer instead of two. Norms of a node's vectors are computed when first needed.
    """

    network: Network
    bounds: Mapping[str, Bounds]
    _norms: dict[str, Tensor | None] = field(default_factory=dict)
    _starts: dict[str, Tensor] = field(default_factory=dict)

    def relaxation_error(self, node: Node, coefficients: Tensor) -> Tensor | float:
        """The error ``(B, m)`` of passing ``coefficients`` ``(B or 1, m, *shape)`` backwards through a node.

        That of an activation is 0 where the affine operators above include it.
        """
        if node.name not in self._norms:
            vector = self._vector(node)
            self._norms[node.name] = None if vector is None else _norm(vector[:, None])
        norm = self._norms[node.name]
        return 0.0 if norm is None else _norm(coefficients) * norm

    def start_error(self, objective: Objective) -> Tensor | float:
        """The error ``(B, m)`` of pulling an objective back to its node; and of the activation there, which no affine
        operator above includes."""
        node = self.network[objective.node]
        if not objective.pullback_history and self._included_above(node):
            if node.name not in self._starts:
                self._starts[node.name] = _norm(self._of_activation(node)[:, None])
            return _norm(objective.coefficients) * self._starts[node.name]
        return sum((self.relaxation_error(self.network[name], a) for name, a in objective.pullback_history), start=0.0)

    def sum_error(self, name: str, coefficients: Tensor) -> Tensor:
        """The error ``(B, m)`` of adding two expressions at a node, from the coefficients of the sum."""
        return _norm(coefficients) * _norm(gamma(1) * self.magnitude(name)[:, None])

    def magnitude(self, name: str) -> Tensor:
        """The largest magnitude of each value of a node, ``(B, *shape)``."""
        return torch.maximum(self.bounds[name].lower.abs(), self.bounds[name].upper.abs())

    def _vector(self, node: Node) -> Tensor | None:
        """The error for each unit of coefficient, ``(B, *shape)``; ``None`` where there is none."""
        operator = node.operator
        if isinstance(operator, Input) or self._included_above(node):
            return None
        if not isinstance(operator, AffineOperator):
            return self._of_activation(node)
        inputs = [self.network[name] for name in node.inputs]
        below = [self._included_above(source) for source in inputs]
        if not operator.accumulation_length and not any(below):
            return None
        own = gamma(operator.accumulation_length) if operator.accumulation_length else 0.0
        parts = (
            own * self.magnitude(source.name) + (self._of_activation(source) if activation else 0.0)
            for source, activation in zip(inputs, below, strict=True)
        )
        vector = operator.abs_linear(*parts)
        if operator.offset is not None:
            vector = vector + gamma(math.prod(node.shape)) * operator.offset.abs()
        if isinstance(operator, PairMaximum):  # upper bounds are added up over the layer
            compared = self.magnitude(node.inputs[0]) + self.magnitude(node.inputs[1])
            vector = vector + gamma(math.prod(node.shape)) * compared
        return vector

    def _of_activation(self, node: Node) -> Tensor:
        # Slopes and intercepts are rounded, and intercepts are added up over the layer.
        steepest = node.operator.function.lipschitz if isinstance(node.operator, Activation) else 1.0
        terms = self.magnitude(node.name) + steepest * self.magnitude(node.inputs[0])
        return gamma(math.prod(node.shape)) * terms

    def _included_above(self, node: Node) -> bool:
        return isinstance(node.operator, Activation) and node.name not in self._activated

    @cached_property
    def _activated(self) -> frozenset[str]:
        """The nodes whose value an operator takes that is not affine."""
        consumers = (node for node in self.network.nodes if not isinstance(node.operator, AffineOperator))
        return frozenset(name for node in consumers for name in node.inputs)


def _norm(coefficients: Tensor) -> Tensor:
    """The Euclidean norm of each expression, ``(B or 1, m)``, from ``(B or 1, m, *shape)``."""
    norm: Tensor = torch.linalg.vector_norm(coefficients.flatten(2), dim=2)
    return norm
