"""Interval bound propagation: centre and radius through affine operators, endpoints through monotone activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import torch

from kreludomain.deadline import Deadline
from kreludomain.domain.abstraction import Abstraction, LowerBounds, intersect
from kreludomain.domain.backward import back_substitute
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.method import Method
from kreludomain.domain.query import Query
from kreludomain.domain.relaxation import ConstantRelaxation, cut_nodes
from kreludomain.network.operators import Activation, AffineOperator, Operator, PairMaximum
from kreludomain.property import Objective
from kreludomain.rounding import ROUNDING, gamma


@singledispatch
def interval(operator: Operator, *inputs: Bounds) -> Bounds:
    """Bounds of an operator's value from bounds of its inputs. A new kind of operator registers here."""
    raise TypeError(f"no interval transformer for {type(operator).__name__}")


@interval.register
def _(operator: AffineOperator, *inputs: Bounds) -> Bounds:
    middle = operator(*(b.lower / 2 + b.upper / 2 for b in inputs))  # their sum may overflow
    radius = operator.abs_linear(*(b.upper / 2 - b.lower / 2 for b in inputs))
    reach = operator.abs_linear(*(torch.maximum(b.lower.abs(), b.upper.abs()) for b in inputs))
    reach = reach if operator.offset is None else reach + operator.offset.abs()
    radius = radius + max(ROUNDING, gamma(operator.accumulation_length)) * reach
    return Bounds.computed(middle - radius, middle + radius)


@interval.register
def _(operator: Activation, *inputs: Bounds) -> Bounds:
    return Bounds.computed(*operator.function.range(inputs[0].lower, inputs[0].upper))


@interval.register
def _(operator: PairMaximum, *inputs: Bounds) -> Bounds:
    a, b, _ = inputs
    return Bounds(torch.maximum(a.lower, b.lower), torch.maximum(a.upper, b.upper))


@dataclass(frozen=True, eq=False)
class IntervalAbstraction(Abstraction):
    """Bounds of every node. An objective is back-substituted to the nearest activations and maxima, and concretised
    there."""

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        relaxations = {name: ConstantRelaxation(self.bounds[name]) for name in cut_nodes(self.network)}
        return LowerBounds(back_substitute(self.network, objective, relaxations, self.region, self.rounding))


@dataclass(frozen=True)
class Interval(Method):
    """Interval analysis: the cheapest method, and the loosest."""

    @torch.no_grad()
    def abstract(self, query: Query) -> IntervalAbstraction:
        network, region = query.network, query.region
        bounds = {network.input.name: Bounds(region.lower, region.upper)}
        for node in network.nodes:
            if node.inputs:
                bounds[node.name] = interval(node.operator, *(bounds[name] for name in node.inputs))
            bounds[node.name] = intersect(node.name, bounds[node.name], query.prior_bounds)
        return IntervalAbstraction(network, region, LayerBounds(bounds))
