"""Every activation keeps one contract: its range and relaxations hold, whatever the bounds, and every method uses them.

A new activation is an entry of ``ACTIVATIONS`` in the package, and of the tables in ``activations.py`` here.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import mpmath
import pytest
import torch
from activations import EXACT, MORE, TORCH, exact_value
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import activated, inputs
from torch import Tensor, nn
from torch.nn import functional

import kreludomain as kd
from kreludomain.activations import ACTIVATIONS, TANGENTS, ActivationFunction, Band, Curve, Line
from kreludomain.network import Network, Node, Runtime, from_torch, parse_onnx, to_onnx
from kreludomain.network.operators import Activation, Input
from kreludomain.property import Objective

FUNCTIONS = {name: kind() for name, kind in ACTIVATIONS.items()} | {str(function): function for function in MORE}
every = pytest.mark.parametrize("function", FUNCTIONS.values(), ids=FUNCTIONS.keys())
#: Those that whole networks are made with: methods tell no activation from another.
in_networks = pytest.mark.parametrize("function", [FUNCTIONS[name] for name in TORCH], ids=TORCH.keys())
#: Where intervals begin, and how wide they are: nothing, less than rounding, ordinary, and far beyond saturation.
PLACES = [-1e9, -1e3, -41.0, -9.0, -3.0, -1.5, -0.7, -1e-9, 0.0, 1e-12, 0.4, 1.4, 3.0, 40.0, 1e3, 1e6]
WIDTHS = [0.0, 1e-15, 1e-12, 1e-9, 1e-3, 0.1, 1.0, 2.5, 6.0, 30.0, 100.0, 2e3, 3e9]


def every_interval() -> tuple[Tensor, Tensor]:
    lower, width = (v.flatten() for v in torch.meshgrid(*map(torch.tensor, (PLACES, WIDTHS)), indexing="ij"))
    return lower.double(), lower.double() + width


def ordinary(lower: Tensor, upper: Tensor) -> Tensor:
    """Which intervals are such that results are expected to be tight, not only sound."""
    return (lower.abs() < 10) & (upper.abs() < 50)


def grid(function: ActivationFunction, lower: Tensor, upper: Tensor, count: int = 401) -> Tensor:
    """Points of each interval ``(N, n)``: its ends, even ones, even ones near zero, and where pieces meet."""
    share = torch.linspace(0, 1, count, dtype=torch.float64)[:, None]
    even = lower + share * (upper - lower)
    near = (share * 40 - 20).expand_as(even)
    points = [even, near, torch.zeros_like(even[:1])]
    if isinstance(function, Curve):
        points += [torch.full_like(even[:1], point) for point in function.breakpoints]
    return torch.cat(points).clamp(lower, upper)


def holds(band: Band, x: Tensor, y: Tensor) -> bool:
    """Whether lines are below and above the function's values ``y``, by more than evaluating them here is off."""
    return bool((band.below(x) <= y + _off(band.below, x)).all() and (band.above(x) >= y - _off(band.above, x)).all())


def _off(line: Line, x: Tensor) -> Tensor:
    return 4e-16 * (line.slope * x).abs()


# ---- what a function declares ---------------------------------------------------------------------------------------


def test_every_activation_is_in_every_table() -> None:
    assert set(ACTIVATIONS) == set(EXACT) >= set(TORCH)
    assert all(kind.onnx_name == name for name, kind in ACTIVATIONS.items())


@every
def test_values_are_those_of_exact_arithmetic(function: ActivationFunction) -> None:
    x = torch.cat([torch.linspace(-30, 30, 301), torch.tensor([-1e6, -745.0, -1e-300, 0.0, 1e-9, 800.0])]).double()
    exact = [float(exact_value(function, float(v))) for v in x]
    torch.testing.assert_close(function(x), torch.tensor(exact, dtype=torch.float64), rtol=1e-14, atol=1e-15)


@every
def test_declared_traits_are_true(function: ActivationFunction) -> None:
    x = torch.linspace(-20, 20, 4001, dtype=torch.float64).requires_grad_()
    (slope,) = torch.autograd.grad(function(x).sum(), x)
    assert float(slope.abs().max()) <= function.lipschitz
    negative, positive = slope[x < 0], slope[x > 0]
    assert function.linear_by_sign == bool((negative == negative[0]).all() and (positive == positive[0]).all())
    assert function.is_relu == torch.equal(function(x), x.clamp(min=0))


@pytest.mark.parametrize("name", [name for name, function in FUNCTIONS.items() if isinstance(function, Curve)])
def test_curves_are_convex_where_they_say(name: str) -> None:
    function = FUNCTIONS[name]
    assert isinstance(function, Curve)
    ends = [-15.0, *function.breakpoints, 15.0]
    for start, end, convex in zip(ends[:-1], ends[1:], function.convex, strict=True):
        x = torch.linspace(start, end, 1002, dtype=torch.float64)[1:-1].requires_grad_()
        (slope,) = torch.autograd.grad(function(x).sum(), x)
        torch.testing.assert_close(function.derivative(x.detach()), slope, rtol=1e-12, atol=1e-12)
        change = slope.diff()
        assert (change >= -1e-12).all() if convex else (change <= 1e-12).all()


# ---- ranges and lines -----------------------------------------------------------------------------------------------


@every
def test_ranges_hold_and_are_tight(function: ActivationFunction) -> None:
    lower, upper = every_interval()
    values, (least, most) = function(grid(function, lower, upper)), function.range(lower, upper)
    assert (least <= values).all()
    assert (values <= most).all()
    usual = ordinary(lower, upper)
    assert (values.amin(0) - least < 1e-3)[usual].all()
    assert (most - values.amax(0) < 1e-3)[usual].all()
    points = lower == upper
    assert (most - least <= 1e-10 + 1e-11 * lower.abs())[points].all()


@every
def test_a_smaller_interval_has_a_smaller_range(function: ActivationFunction) -> None:
    lower, upper = every_interval()
    least, most = function.range(lower, upper)
    for first, last in ((0.0, 0.5), (0.3, 0.6), (0.5, 1.0)):
        inside = function.range(lower + first * (upper - lower), lower + last * (upper - lower))
        slack = 2e-12 * (1 + torch.maximum(lower.abs(), upper.abs()))
        assert (inside[0] >= least - slack).all()
        assert (inside[1] <= most + slack).all()


@every
def test_lines_are_below_and_above_everywhere(function: ActivationFunction) -> None:
    lower, upper = every_interval()
    x = grid(function, lower, upper)
    y = function(x)
    tangents = function.tangents(lower, upper)
    assert tangents.below.slope.shape == (TANGENTS, *lower.shape)
    several = [Band(tangents.below[i], tangents.above[i]) for i in range(TANGENTS)]
    for band in (function.lines(lower, upper), function.parallel_lines(lower, upper), *several):
        assert holds(band, x, y)
        assert all((line.slope.abs() <= function.lipschitz + 1e-12).all() for line in (band.below, band.above))


@every
def test_lines_stay_below_exact_values(function: ActivationFunction) -> None:
    """At the ends and where lines touch, with values and lines to 50 digits."""
    lower, upper = every_interval()
    tangents = function.tangents(lower, upper)
    for lines, at, sign in ((tangents.below, tangents.at_below, 1), (tangents.above, tangents.at_above, -1)):
        for which in (0, TANGENTS // 2, TANGENTS - 1):
            for x in (lower, at[which], upper):
                rows = zip(*(v.tolist() for v in (lines.slope[which], lines.intercept[which], x)), strict=True)
                for slope, intercept, point in rows:
                    with mpmath.workdps(50):
                        line = mpmath.mpf(slope) * mpmath.mpf(point) + mpmath.mpf(intercept)
                        # a ReLU's lines are rounded; what that is worth is taken off expressions, not off lines
                        slack = 4e-16 * (abs(slope * point) + abs(intercept)) if function.is_relu else 0
                        assert sign * (exact_value(function, point) - line) >= -slack, (
                            f"{slope} * {point} + {intercept}"
                        )


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(sorted(FUNCTIONS)), st.floats(-50, 50), st.floats(0, 60))
def test_lines_of_any_interval_hold_and_touch(name: str, start: float, width: float) -> None:
    function = FUNCTIONS[name]
    lower, upper = torch.tensor([start]).double(), torch.tensor([start + width]).double()
    x, band = grid(function, lower, upper), function.lines(lower, upper)
    assert holds(band, x, function(x))
    assert float((function(x) - band.below(x)).min()) < 1e-4
    assert float((band.above(x) - function(x)).min()) < 1e-4


@every
def test_lines_leave_less_than_the_range(function: ActivationFunction) -> None:
    """In the middle, where the distance of two lines times the width is the area between them."""
    lower, upper = every_interval()
    band, (least, most), middle = function.lines(lower, upper), function.range(lower, upper), (lower + upper) / 2
    slack = 1e-6 * (1 + torch.maximum(lower.abs(), upper.abs()))
    assert (band.above(middle) - band.below(middle) <= most - least + slack)[~((lower < 0) & (upper > 0))].all()
    assert (band.above(middle) <= most + slack).all()


@every
def test_parallel_lines_are_parallel(function: ActivationFunction) -> None:
    lower, upper = every_interval()
    band = function.parallel_lines(lower, upper)
    assert torch.equal(band.below.slope, band.above.slope)
    least, most = function.range(lower, upper)
    slack = 1e-6 * (1 + torch.maximum(lower.abs(), upper.abs()))
    assert (band.above.intercept - band.below.intercept <= most - least + slack).all()


@every
def test_the_polygon_holds_the_curve(function: ActivationFunction) -> None:
    """In every direction, its minimum is at most the curve's, and hardly less."""
    lower, upper = every_interval()
    x, y = function.polygon(lower, upper)
    assert x.shape == y.shape == (2 * TANGENTS + 2, *lower.shape)
    assert ((x >= lower) & (x <= upper)).all()
    points = grid(function, lower, upper)
    values, usual = function(points), ordinary(lower, upper)
    for slope in torch.cat([torch.linspace(-0.6, 1.6, 45), torch.tensor([1e-3, 1e-6, 1e-12])]).tolist():
        for sign in (1, -1):
            slack = 1e-15 * (1 + (1 + abs(slope)) * torch.maximum(lower.abs(), upper.abs()))
            least, true = ((sign * (b - slope * a)).amin(0) for a, b in ((x, y), (points, values)))
            assert (least <= true + slack).all()
            assert (least >= true - 0.03 * (1 + upper - lower))[usual].all()


@every
def test_back_substitution_through_the_relaxation_holds(function: ActivationFunction) -> None:
    lower, upper = (end[None, ordinary(*every_interval())] for end in every_interval())
    generator = torch.Generator().manual_seed(0)
    relaxation = function.relax(lower, upper, "area")
    a = torch.randn(1, 5, lower.shape[1], generator=generator, dtype=torch.float64)
    (passed,), constant = relaxation.backward(a)
    share = torch.rand(50, lower.shape[1], generator=generator, dtype=torch.float64)
    for x in (lower[0] + share * (upper - lower)[0], lower, upper):
        value, bound = function(x) @ a[0].T, x @ passed[0].T + constant
        assert (bound <= value + 1e-12 * (a[0].abs() @ x.abs().T).T).all()


# ---- in networks ----------------------------------------------------------------------------------------------------

METHODS: dict[str, kd.Method] = {
    "interval": kd.Interval(),
    "zonotope": kd.Zonotope(),
    "deeppoly": kd.DeepPoly(),
    "lp": kd.TriangleLP(),
    "lp, all": kd.TriangleLP(refine="all"),
    "krelu-lp": kd.KReluLP(k=2),
    "krelu": kd.KRelu(preset="fast"),
    "krelu, all": kd.KRelu(preset="tight", k=2, steps=30, inner_steps=20, octahedron_steps=5),
}


def network_with(name: str) -> Network:
    return activated(3, 6, 5, 2, make=TORCH[name][0], seed=3)


@in_networks
@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
def test_bounds_contain_sampled_values(method: kd.Method, function: ActivationFunction) -> None:
    """Every node's bounds, and the outputs'; DeepPoly and the dual are no looser than intervals."""
    network = network_with(function.onnx_name)
    for seed, radius in enumerate((1e-9, 0.3, 4.0)):
        region = kd.ball(inputs(network, 1, seed), radius)
        abstraction = method.abstract(kd.Query(network, region))
        values = network.values(region.sample(500, torch.Generator().manual_seed(seed)))
        for name, value in values.items():
            bounds = abstraction.bounds[name]
            assert bool(((bounds.lower <= value) & (value <= bounds.upper)).all()), name
        objective = Objective.neurons(network, network.output.name, torch.arange(2))
        found, loose = abstraction.extrema(objective), kd.Interval().abstract(kd.Query(network, region)).bounds
        output = values[network.output.name]
        assert bool(((found.lower <= output) & (output <= found.upper)).all())
        if not isinstance(method, kd.Interval | kd.Zonotope):
            assert (found.lower >= loose[network.output.name].lower - 1e-9).all()


@in_networks
def test_complete_verifies_and_falsifies(function: ActivationFunction) -> None:
    network = network_with(function.onnx_name)
    region = kd.ball(inputs(network, 1), 0.1)
    output = network(region.sample(2000, torch.Generator().manual_seed(0)))[:, 0]
    width = float(output.max() - output.min())
    for shift, verdict in ((0.3 * width, "verified"), (-0.3 * width, "falsified")):
        claim = kd.claim(torch.tensor([[1.0, 0.0]]), torch.tensor([shift - float(output.min())], dtype=torch.float64))
        assert kd.certify(network, region, claim, "complete", timeout_s=20).verdict == verdict


# ---- readers and writers --------------------------------------------------------------------------------------------


@in_networks
def test_onnx_there_and_back(function: ActivationFunction) -> None:
    network = network_with(function.onnx_name)
    data = to_onnx(network)
    again = parse_onnx(data)
    assert [type(n.operator.function) for n in again.nodes if isinstance(n.operator, Activation)] == [
        type(function)
    ] * 2
    x = 3 * inputs(network, 50)
    torch.testing.assert_close(again(x), network(x), rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(Runtime(again)(x).double(), network(x), rtol=1e-4, atol=1e-4)


class Functional(nn.Module):
    """A layer, and torch's function of it."""

    def __init__(self, function: Callable[..., Tensor], **options: Any) -> None:
        super().__init__()
        self.layer, self.function, self.options = nn.Linear(3, 4), function, options

    def forward(self, x: Tensor) -> Tensor:
        return self.function(self.layer(x), **self.options)


@in_networks
def test_torch_modules_and_functions_are_read(function: ActivationFunction) -> None:
    module, called = TORCH[function.onnx_name]
    for made in (nn.Sequential(nn.Linear(3, 4), module()), Functional(called)):
        network = from_torch(made, (3,))
        assert network.output.operator.kind == type(function).__name__
        x = 5 * inputs(network, 50)
        torch.testing.assert_close(network(x), made.double()(x), rtol=1e-9, atol=1e-8)


def test_softplus_with_a_factor_is_scaled() -> None:
    for made in (nn.Sequential(nn.Softplus(beta=2.5)), Functional(functional.softplus, beta=0.3)):
        network = from_torch(made.double(), (3,))
        x = 3 * inputs(network, 50)
        torch.testing.assert_close(network(x), made(x), rtol=1e-9, atol=1e-8)


def test_functions_of_the_same_name_that_are_others_are_told_apart() -> None:
    made = Functional(functional.gelu, approximate="tanh").double()
    network = from_torch(made, (3,))
    x = 5 * inputs(network, 50)
    torch.testing.assert_close(network(x), made(x), rtol=1e-9, atol=1e-8)


def test_an_activation_is_called_by_its_function_in_messages() -> None:
    node = Node("y", Activation(FUNCTIONS["Gelu"], (2,)), ("x",))
    network = Network((Node("x", Input((2,))), node))
    with pytest.raises(kd.InputError, match=r"node 'y' \(Gelu\): bounds take networks"):
        network.require_relus("bounds")
    assert math.prod(node.shape) == 2
