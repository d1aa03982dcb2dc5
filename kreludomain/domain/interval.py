"""Interval bound propagation: centre and radius through affine operators, endpoints through monotone activations."""

from __future__ import annotations

from dataclasses import dataclass
from functools import singledispatch

import torch

from kreludomain.deadline import Deadline
from kreludomain.domain.abstraction import Abstraction, Known, Minima, cut, prepare
from kreludomain.domain.backward import back_substitute
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.relaxation import anchors
from kreludomain.domain.relu import ConstantStep
from kreludomain.network import Network
from kreludomain.network.operators import AffineOperator, Operator, PairMaximum, Relu, SShaped
from kreludomain.spec import Objective, Region
from kreludomain.spec.region import ROUNDING, accumulated


@singledispatch
def interval(operator: Operator, *inputs: Bounds) -> Bounds:
    """Bounds of an operator's value from bounds of its inputs. A new operator registers its transformer here."""
    raise TypeError(f"no interval transformer for {type(operator).__name__}")


@interval.register
def _(operator: AffineOperator, *inputs: Bounds) -> Bounds:
    middle = operator(*((b.lower + b.upper) / 2 for b in inputs))
    radius = operator.magnitude(*(b.width / 2 for b in inputs))
    reach = operator.magnitude(*(torch.maximum(b.lower.abs(), b.upper.abs()) for b in inputs))
    reach = reach if operator.offset is None else reach + operator.offset.abs()
    radius = radius + max(ROUNDING, accumulated(operator.terms)) * reach
    return Bounds(middle - radius, middle + radius)


@interval.register
def _(operator: Relu, *inputs: Bounds) -> Bounds:
    return Bounds(operator(inputs[0].lower), operator(inputs[0].upper))


@interval.register
def _(operator: SShaped, *inputs: Bounds) -> Bounds:
    return Bounds(operator(inputs[0].lower) - ROUNDING, operator(inputs[0].upper) + ROUNDING)


@interval.register
def _(operator: PairMaximum, *inputs: Bounds) -> Bounds:
    a, b, _ = inputs
    return Bounds(torch.maximum(a.lower, b.lower), torch.maximum(a.upper, b.upper))


@dataclass(frozen=True, eq=False)
class IntervalAbstraction(Abstraction):
    """Bounds of every node; an objective is pushed back over affine operators to the nearest activations and maxima."""

    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> Minima:
        steps = {name: ConstantStep(self.bounds[name]) for name in anchors(self.network)}
        return Minima(back_substitute(self.network, objective, steps, self.region, self.rounding))


@dataclass(frozen=True)
class Interval:
    """Interval analysis: the cheapest method, and the loosest."""

    @torch.no_grad()
    def abstract(
        self, network: Network, region: Region, known: Known | None = None, deadline: Deadline = Deadline()
    ) -> IntervalAbstraction:
        region, known = prepare(network, region, known)
        bounds = {network.input.name: Bounds(region.lower, region.upper)}
        for node in network.nodes:
            if node.inputs:
                bounds[node.name] = interval(node.operator, *(bounds[name] for name in node.inputs))
            bounds[node.name] = cut(node.name, bounds[node.name], known)
        return IntervalAbstraction(network, region, LayerBounds(bounds))
