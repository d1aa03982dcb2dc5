"""Weights that cancel: bounds stay below minima that are computed in rational numbers."""

from __future__ import annotations

import math
from collections.abc import Callable
from fractions import Fraction
from functools import cache, partial
from typing import NamedTuple

import mpmath
import pytest
import torch
from activations import exact_value
from networks import residual_module
from torch import Tensor, nn

import kreludomain as kd
from kreludomain.activations import ActivationFunction
from kreludomain.branching.inputs import InputSplitting, prove_by_input_splitting
from kreludomain.branching.milp import MilpAbstraction
from kreludomain.deadline import Deadline
from kreludomain.domain import back_substitute
from kreludomain.network import Network, from_torch
from kreludomain.network.operators import Activation, AffineOperator
from kreludomain.property import Objective


class Milp(kd.Method):
    """Mixed-integer programs over a method's bounds."""

    def __init__(self, method: kd.Method) -> None:
        self.method = method

    def abstract(self, query: kd.Query) -> MilpAbstraction:
        return MilpAbstraction.over(self.method.abstract(query))


METHODS: dict[str, kd.Method] = {
    "interval": kd.Interval(),
    "zonotope": kd.Zonotope(),
    "deeppoly": kd.DeepPoly(),
    "krelu": kd.KRelu(preset="fast", k=2, partition_size=6, steps=20),
    "krelu, all": kd.KRelu(preset="tight", k=2, partition_size=6, steps=20, inner_steps=10, octahedron_steps=5),
    "lp": kd.TriangleLP(),
    "lp over intervals": kd.TriangleLP(base="interval"),
    "krelu-lp": kd.KReluLP(k=2, partition_size=6),
    "milp": Milp(kd.DeepPoly()),
    "milp over intervals": Milp(kd.Interval()),
}
Rationals = list[Fraction]
ZERO = Fraction(0)


def rational(values: Tensor) -> Rationals:
    return [Fraction(value) for value in values.flatten().tolist()]


#: Expressions in the two outputs: the first cancels them.
ROWS = torch.tensor([[0.7, -1.1], [1.0, 0.0], [-1.0, 0.0], [1.0, -1.0]], dtype=torch.float64)


def cancelling(
    scale: float,
    seed: int,
    inputs: int = 3,
    width: int = 8,
    kinks: int = 0,
    between: nn.Module | None = nn.ReLU(),
    behind: nn.Module = nn.ReLU(),
) -> Network:
    """Dense layers whose products are zero but for rounding, on positive inputs.

    The second layer's rows are orthogonal to the first's columns, and the outputs are multiples of each other. Neurons
    of the first layer are active, but for the last ``kinks``, whose sign is open; where nothing is ``between`` the
    layers, both are one affine map. There are no large biases, whose own rounding would be allowed for.
    """
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    first, second, third = (nn.Linear(n, m, dtype=torch.float64) for n, m in ((inputs, width), (width, 4), (4, 2)))
    weight, rows = draw(width, inputs).abs() * scale, draw(4, width) * scale
    for kink in range(width - kinks, width):
        weight[kink] = draw(inputs) / scale
        weight[kink, 0] -= weight[kink].sum()
    active = weight[: width - kinks]
    rows[:, : width - kinks] -= rows[:, : width - kinks] @ active @ torch.linalg.pinv(active)
    last = draw(4) * scale
    first.weight.data, first.bias.data = weight, torch.zeros(width, dtype=torch.float64)
    second.weight.data, second.bias.data = rows, draw(4).abs()
    third.weight.data, third.bias.data = torch.stack([last, last * float(-ROWS[0, 0] / ROWS[0, 1])]), draw(2)
    layers = [first, second] if between is None else [first, between, second]
    return from_torch(nn.Sequential(*layers, behind, third), (inputs,))


class Branches(nn.Module):
    """Convolutions and a residual difference of two branches that are equal but for rounding, on positive inputs.

    With ``pool``, the largest differences have a share in the outputs.
    """

    def __init__(self, scale: float, seed: int, pool: bool) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.stem, self.left = nn.Conv2d(1, 3, 2).double(), nn.Conv2d(3, 2, 1, bias=False).double()
        self.spread, self.right = (nn.Conv2d(3, n, 1, bias=False).double() for n in (3, 2))
        self.head = nn.Linear(8, 2).double()
        self.pooled = nn.Sequential(nn.MaxPool2d(2), nn.Flatten(), nn.Linear(2, 2)).double() if pool else None
        for layer in (self.stem, self.left):
            layer.weight.data = layer.weight.data.abs() * scale
        self.spread.weight.data = self.spread.weight.data.abs() * scale
        inverse = torch.linalg.inv(self.spread.weight.data[:, :, 0, 0])
        self.right.weight.data = (self.left.weight.data[:, :, 0, 0] @ inverse)[:, :, None, None]
        self.head.weight.data *= scale

    def forward(self, x: Tensor) -> Tensor:
        x = torch.relu(self.stem(x))
        difference = self.left(x) - self.right(torch.relu(self.spread(x)))
        result: Tensor = self.head(torch.relu(difference).flatten(1) + difference.flatten(1))
        return result if self.pooled is None else result + self.pooled(difference)


def branches(scale: float, seed: int, pool: bool = False) -> Network:
    return from_torch(Branches(scale ** (1 / 3), seed, pool), (1, 3, 3))


def exact_minimum(network: Network, region: kd.Region, row: Tensor) -> Fraction:
    """``min row . f(x)`` over a box in which one input moves, exactly: ``f`` is linear between its kinks."""
    low, high = rational(region.lower), rational(region.upper)
    assert sum(a < b for a, b in zip(low, high, strict=True)) == 1
    slopes = [b - a for a, b in zip(low, high, strict=True)]
    return _minimum(network, Pair(slopes, low), rational(row), Fraction(0), Fraction(1))


class Pair(NamedTuple):
    """``slopes * t + shifts``, entry by entry."""

    slopes: Rationals
    shifts: Rationals


def _minimum(network: Network, start: Pair, row: Rationals, left: Fraction, right: Fraction) -> Fraction:
    """The minimum over ``left <= t <= right``; where a neuron has a kink in between, the least of both sides."""
    values = {network.input.name: start}
    for node in network.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.operator, AffineOperator):
            values[node.name] = _affine(node.operator, inputs)
            continue
        entries = list(zip(*inputs[0], strict=True))
        for slope, shift in entries:
            if slope and left < (kink := -shift / slope) < right:
                return min(_minimum(network, start, row, *ends) for ends in ((left, kink), (kink, right)))
        active = [slope * (left + right) / 2 + shift > 0 for slope, shift in entries]
        values[node.name] = Pair(*([v if on else ZERO for v, on in zip(vs, active, strict=True)] for vs in inputs[0]))
    output = zip(row, *values[network.output.name], strict=True)
    slope, shift = (sum(terms, ZERO) for terms in zip(*((w * s, w * c) for w, s, c in output), strict=True))
    return min(slope * left, slope * right) + shift


def _affine(operator: AffineOperator, inputs: list[Pair]) -> Pair:
    size = math.prod(operator.out_shape)
    slopes = [ZERO] * size
    shifts = [ZERO] * size if operator.offset is None else rational(operator.offset)
    for position, (pair, shape) in enumerate(zip(inputs, operator.in_shapes, strict=True)):
        count = math.prod(shape)
        unit = [torch.zeros(count, *other, dtype=torch.float64) for other in operator.in_shapes]
        unit[position] = torch.eye(count, dtype=torch.float64).view(count, *shape)
        for column, slope, shift in zip(operator.linear(*unit), *pair, strict=True):
            for i, weight in enumerate(rational(column)):
                if weight:
                    slopes[i] += weight * slope
                    shifts[i] += weight * shift
    return Pair(slopes, shifts)


def segment(network: Network, seed: int) -> kd.Region:
    """A box of positive inputs in which one moves."""
    generator = torch.Generator().manual_seed(seed)
    lower = torch.rand(1, *network.input.shape, generator=generator, dtype=torch.float64) + 0.25
    upper = lower.clone()
    upper.view(-1)[seed % upper.numel()] += 0.5
    return kd.box(lower, upper)


#: Each by its scale and a seed; three of the layers of branches multiply.
NETWORKS: dict[str, Callable[[float, int], Network]] = {
    "active": cancelling,
    "kinks": partial(cancelling, kinks=3),
    "affine": partial(cancelling, between=None),
    "branches": branches,
    "maxima": partial(branches, pool=True),
}


@cache
def with_minima(name: str, scale: float, seed: int) -> tuple[Network, kd.Region, list[Fraction]]:
    """A network, a region, and the exact minima of ``ROWS``: minutes of rational arithmetic if done for each method."""
    network = NETWORKS[name](scale, seed)
    region = segment(network, seed)
    return network, region, [exact_minimum(network, region, row) for row in ROWS]


@pytest.mark.parametrize("name", NETWORKS)
@pytest.mark.parametrize("scale", [1e4, 1e8])
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_bounds_stay_below_exact_minima(method: kd.Method, scale: float, name: str) -> None:
    for seed in range(3):
        network, region, minima = with_minima(name, scale, seed)
        abstraction = method.abstract(kd.Query(network, region))
        objective = Objective.linear(network, network.output.name, ROWS)
        soon = 0.3 if isinstance(method, Milp) else None  # with such weights its bounds do not meet
        found = (bound(objective, Deadline.after(soon)) for bound in (abstraction.minimise, abstraction.extrema))
        lower, pulled_back = (bounds.lower[0] for bounds in found)
        for row, minimum, bound in zip(ROWS, minima, torch.fmax(lower, pulled_back).tolist(), strict=True):
            sound = not math.isfinite(bound) or Fraction(bound) <= minimum
            assert sound, f"seed {seed}, {row.tolist()}: the exact minimum is below {bound}"


CURVES: dict[str, Callable[[float, int], Network]] = {
    "sigmoid": partial(cancelling, between=None, behind=nn.Sigmoid()),
    "tanh": partial(cancelling, between=None, behind=nn.Tanh()),
    "softplus": partial(cancelling, between=None, behind=nn.Softplus()),
    "gelu": partial(cancelling, between=None, behind=nn.GELU()),
    "hardswish": partial(cancelling, between=None, behind=nn.Hardswish()),
    "relu, sigmoid": partial(cancelling, kinks=3, behind=nn.Sigmoid()),
}
CURVED = {name: METHODS[name] for name in ("interval", "zonotope", "deeppoly", "krelu", "krelu, all", "lp", "krelu-lp")}


def exact_values(network: Network, x: Rationals) -> dict[str, Rationals]:
    """Every node's value at a point; those of curves to 80 digits."""
    values = {network.input.name: x}
    for node in network.nodes[1:]:
        inputs = [values[name] for name in node.inputs]
        if isinstance(node.operator, AffineOperator):
            values[node.name] = _affine(node.operator, [Pair([ZERO] * len(v), v) for v in inputs]).shifts
        elif isinstance(node.operator, Activation) and not node.is_relu:
            values[node.name] = [_curve(node.operator.function, v) for v in inputs[0]]
        else:
            values[node.name] = [max(v, ZERO) for v in inputs[0]]
    return values


def _curve(function: ActivationFunction, x: Fraction) -> Fraction:
    with mpmath.workdps(80):
        value = exact_value(function, mpmath.mpf(x.numerator) / x.denominator, digits=80)
        # below 1e-300 there is no float64 for a bound to be on the wrong side of
        return Fraction(mpmath.nstr(value, 80)) if abs(value) > mpmath.mpf("1e-300") else ZERO


@pytest.mark.parametrize("name", CURVES)
@pytest.mark.parametrize("scale", [1e2, 1e6])
@pytest.mark.parametrize("method", CURVED.values(), ids=CURVED.keys())
def test_bounds_of_curves_stay_below_exact_values(method: kd.Method, scale: float, name: str) -> None:
    for seed in range(3):
        network = CURVES[name](scale, seed)
        region = segment(network, seed)
        abstraction = method.abstract(kd.Query(network, region))
        lower = abstraction.minimise(Objective.linear(network, network.output.name, ROWS)).lower[0].tolist()
        low, high = rational(region.lower), rational(region.upper)
        for part in (Fraction(0), Fraction(1, 3), Fraction(1)):
            values = exact_values(network, [a + part * (b - a) for a, b in zip(low, high, strict=True)])
            for row, bound in zip(ROWS, lower, strict=True):
                value = sum((w * v for w, v in zip(rational(row), values[network.output.name], strict=True)), ZERO)
                assert not math.isfinite(bound) or Fraction(bound) <= value, f"seed {seed}, {row.tolist()}"
            for node, exact in values.items():
                ends = abstraction.bounds[node]
                sides = zip(rational(ends.lower), exact, rational(ends.upper), strict=True)
                assert all(a <= v <= b for a, v, b in sides), f"seed {seed}, node {node}"


#: Small enough a search to come to an end.
SPLITTING = InputSplitting(narrowest=1e-3, most_open=200)


@pytest.mark.parametrize("seed", range(3))
def test_a_claim_that_rounding_makes_true_is_not_verified(seed: int) -> None:
    """``f(x) + d > 0`` where its exact minimum is a little below zero."""
    network = cancelling(1e4, seed)
    region = segment(network, seed)
    for row in ROWS:
        least = exact_minimum(network, region, row)
        shift = math.nextafter(float(-least), -math.inf) - 1e-9
        assert bool(least + Fraction(shift) < 0)
        claim = kd.claim(row[None], torch.tensor([shift], dtype=torch.float64))
        for method in ("zonotope", "deeppoly", "krelu"):
            assert kd.certify(network, region, claim, method, attack=False).verdict != kd.Verdict.VERIFIED
        query = kd.Query(network, region, claim, deadline=Deadline.after(2))
        assert not prove_by_input_splitting(query, SPLITTING).proved
        by_neurons = kd.Complete(splitting=InputSplitting(few_inputs=0), branching=kd.Branching(steps=10))
        complete = kd.certify(network, region, claim, by_neurons, timeout_s=1)
        assert complete.verdict != kd.Verdict.VERIFIED


def test_arithmetic_that_cancels_nothing_costs_nothing() -> None:
    """On ordinary weights, what is allowed for is far below what anybody reads off a bound."""
    network = from_torch(residual_module(), (1, 5, 5))
    region = kd.ball(torch.full((1, 1, 5, 5), 0.5), 0.01)
    abstraction = kd.DeepPoly().abstract(kd.Query(network, region))
    objective = Objective.neurons(network, network.output.name, torch.arange(3))
    exact = back_substitute(network, objective, abstraction.relaxations, region, None)
    sound = back_substitute(network, objective, abstraction.relaxations, region, abstraction.rounding)
    assert (sound < exact).all()
    assert (exact - sound < 1e-11 * exact.abs()).all()
