"""Curves and maxima: relaxations against dense grids and sampled values, and who refuses them."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CURVED, ZOO, activated, inputs
from torch import Tensor, nn

import kreludomain as kd
from kreludomain.activations import TANGENTS, Sigmoid, SShaped, Tanh
from kreludomain.analysis.invert import InvertibilityOptions, pair_radius
from kreludomain.analysis.lipschitz import LocalBounds, jacobian_bounds
from kreludomain.analysis.moments import gaussian, propagated_moments
from kreludomain.analysis.reachable import linear_pieces
from kreludomain.domain import Bounds
from kreludomain.domain.relaxation import maximum_relaxation
from kreludomain.groups import ByArea, relax_jointly
from kreludomain.property import Objective

CURVES: list[SShaped] = [Sigmoid(), Tanh()]
curves = pytest.mark.parametrize("curve", CURVES, ids=lambda c: type(c).__name__)
#: Where intervals begin, and how wide they are: nothing, less than rounding, ordinary, and far beyond saturation.
PLACES = [-1e9, -41.0, -19.0, -3.0, -1.0, -1e-9, 0.0, 1e-12, 0.4, 2.0, 18.0, 40.0, 1e6]
WIDTHS = [0.0, 1e-15, 1e-9, 0.99e-7, 1.01e-7, 1e-4, 0.1, 1.0, 2.5, 6.0, 30.0, 90.0, 1e5, 3e9]


def every_interval() -> Bounds:
    lower, width = (v.flatten() for v in torch.meshgrid(*map(torch.tensor, (PLACES, WIDTHS)), indexing="ij"))
    return Bounds(lower.double(), lower.double() + width)


def grid(bounds: Bounds, count: int = 1001) -> Tensor:
    """Points of each interval ``(N, n)``: even ones, the ends, and even ones where the curve bends."""
    share = torch.linspace(0, 1, count, dtype=torch.float64)[:, None]
    even = bounds.lower + share * (bounds.upper - bounds.lower)
    bend = (share * 40 - 20).expand_as(even)
    return torch.cat([even, bend]).clamp(bounds.lower, bounds.upper)


@curves
def test_lines_below_are_below_and_lines_above_are_above(curve: SShaped) -> None:
    """By less than rounding, everywhere: also where bounds are equal, next to it, tiny, or huge."""
    bounds = every_interval()
    x = grid(bounds)
    y = curve(x)
    bands = curve.tangents(bounds.lower, bounds.upper)
    several = [(bands.below[i], bands.above[i]) for i in range(TANGENTS)]
    single = [
        (band.below, band.above)
        for band in (make(bounds.lower, bounds.upper) for make in (curve.lines, curve.parallel_lines))
    ]
    for below, above in several + single:
        slack = 2e-16 * (below.slope * x).abs()  # of evaluating the line here
        assert (below(x) <= y + slack).all()
        assert (above(x) >= y - slack).all()


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(CURVES), st.floats(-50, 50), st.floats(0, 60))
def test_lines_of_any_interval(curve: SShaped, lower: float, width: float) -> None:
    bounds = Bounds(torch.tensor([lower]).double(), torch.tensor([lower + width]).double())
    x = grid(bounds)
    band = curve.lines(bounds.lower, bounds.upper)
    assert (band.below(x) <= curve(x)).all()
    assert (band.above(x) >= curve(x)).all()
    # they touch: nothing can be moved
    assert float((curve(x) - band.below(x)).min()) < 1e-4
    assert float((band.above(x) - curve(x)).min()) < 1e-4


@curves
def test_one_line_is_no_worse_than_the_ends(curve: SShaped) -> None:
    """In the middle, where the area between both lines is half their distance times the width."""
    bounds = every_interval()
    band, middle = curve.lines(bounds.lower, bounds.upper), (bounds.lower + bounds.upper) / 2
    least, most = curve.range(bounds.lower, bounds.upper)
    assert (band.above(middle) - band.below(middle) <= most - least + 1e-6).all()


@curves
def test_the_polygon_holds_the_curve(curve: SShaped) -> None:
    """Every direction's minimum over the polygon is at most the curve's, and hardly less where the curve is kinked."""
    bounds = every_interval()
    x, y = curve.polygon(bounds.lower, bounds.upper)
    assert x.shape == (2 * TANGENTS + 2, len(bounds.lower))
    assert ((x >= bounds.lower) & (x <= bounds.upper)).all()
    points = grid(bounds)
    values, ordinary = curve(points), (bounds.lower.abs() < 5) & (bounds.upper < 5)
    for slope in torch.cat([torch.linspace(-0.3, 1.3, 33), torch.tensor([1e-3, 1e-6, 1e-12])]).tolist():
        for sign in (1, -1):
            slack = 1e-15 * (1 + abs(slope) * bounds.upper.abs().maximum(bounds.lower.abs()))
            least = (sign * (y - slope * x)).amin(0)
            true = (sign * (values - slope * points)).amin(0)
            assert (least <= true + slack).all()
            assert (least >= true - 0.02)[ordinary].all()


def test_maxima_are_bounded_by_the_step() -> None:
    """``b + relu(a - b)`` below; above, whichever of the chord and the cap was chosen."""
    generator = torch.Generator().manual_seed(0)
    ends = torch.randn(4, 1, 200, generator=generator, dtype=torch.float64)
    a, b = (Bounds(torch.minimum(*e), torch.maximum(*e)) for e in (ends[:2], ends[2:]))
    difference = Bounds(a.lower - b.upper, a.upper - b.lower)
    step = maximum_relaxation(a, b, difference)
    assert 20 < int(step.capped.sum()) < int(difference.unstable.sum()) - 20
    sample = torch.rand(2, 100, 200, generator=generator, dtype=torch.float64)
    x, y = (v.lower + s * v.width for v, s in zip((a, b), sample, strict=True))
    for sign in (1.0, -1.0):
        coefficients = torch.full((1, 1, 200), sign, dtype=torch.float64)
        (to_a, to_b, to_r), constant = step.backward(coefficients)
        values = (to_a * x + to_b * y + to_r * (x - y).clamp(min=0)).sum(2)
        assert (sign * torch.maximum(x, y).sum(1) >= values + constant - 1e-9).all()


@pytest.mark.parametrize("method", ["interval", "deeppoly", "krelu", "krelu-lp"])
def test_a_maximum_is_no_larger_than_what_it_is_of(method: str) -> None:
    """Four independent inputs in [0, 1]: the largest of them is in [0, 1] too, whatever chords say."""
    network = kd.from_torch(nn.Sequential(nn.MaxPool2d(2), nn.Flatten()), (1, 2, 2))
    region = kd.box(torch.zeros(1, 1, 2, 2), torch.ones(1, 1, 2, 2))
    both = kd.abstract(network, region, method).extrema(
        Objective.neurons(network, network.output.name, torch.tensor([0]))
    )
    assert float(both.upper) <= 1 + 1e-9
    assert -1e-9 <= float(both.lower) <= 1e-9


@pytest.mark.parametrize("kind", CURVED)
def test_the_dual_is_at_least_as_tight_as_what_it_begins_with(kind: str) -> None:
    network = CURVED[kind]()
    region = kd.ball(inputs(network, 1), 0.5)
    objective = kd.robustness(0, 3).objective(network)
    deeppoly = kd.abstract(network, region, "deeppoly").minimise(objective).lower
    for preset in ("fast", "balanced"):
        found = kd.abstract(network, region, kd.KRelu(preset=preset)).minimise(objective).lower
        assert (found >= deeppoly).all()
        assert float(found.sum()) > float(deeppoly.sum()) + 1e-3


def test_one_sigmoid_between_affine_layers_is_solved_exactly() -> None:
    """One neuron of one input: the dual finds the polygon's minimum, which is the curve's but for its edges."""
    network = activated(1, 1, 1, make=nn.Tanh, seed=0)
    region = kd.ball(torch.zeros(1, 1), 3.0)
    x = torch.linspace(-3, 3, 10001, dtype=torch.float64)[:, None]
    slope = torch.tensor([[[0.3]]], dtype=torch.float64)
    values = network.values(x)
    taken = network.pre_activations[0]
    pre = kd.abstract(network, region).bounds[taken]
    assert float(values[taken].min()) >= float(pre.lower)
    rows = Objective.linear(network, network.activations[0].name, torch.tensor([[1.0], [-1.0]]))
    found = kd.abstract(network, region, "krelu").minimise(rows).lower[0]
    exact = torch.stack([values[rows.node].min(), -values[rows.node].max()])
    torch.testing.assert_close(found, exact, rtol=0, atol=1e-2 * float(slope.abs().max()))
    assert (found <= exact).all()


@pytest.mark.parametrize("kind", CURVED)
def test_counterexamples_of_torch_networks_replay(kind: str) -> None:
    network = CURVED[kind]()
    region = kd.ball(torch.zeros(1, 4), 2.0)
    values = network(region.sample(100, torch.Generator().manual_seed(0)))[:, 0]
    claim = kd.claim(torch.tensor([[1.0, 0.0, 0.0]]), -values.median()[None])  # which half of them breaks
    found = kd.certify(network, region, claim, "deeppoly")
    assert found.verdict == "falsified"
    assert found.counterexample is not None
    assert bool(region.contains(found.counterexample[None].double()).all())


def test_curves_are_in_no_group() -> None:
    network = CURVED["tanh"]()
    abstraction = kd.abstract(network, kd.ball(torch.zeros(1, 4), 1.0))
    assert all(relax_jointly(abstraction, node, ByArea()) == () for node in network.pre_activations)
    mixed = CURVED["mixed"]()
    abstraction = kd.abstract(mixed, kd.ball(torch.zeros(1, 4), 1.0))
    assert relax_jointly(abstraction, mixed.pre_activations[0], ByArea())


def test_analyses_of_relus_say_so() -> None:
    network = CURVED["tanh"]()
    bounds = kd.bounds(network, kd.ball(torch.zeros(1, 4), 1.0))
    with pytest.raises(kd.InputError, match=r"node '_1' \(Tanh\): Lipschitz constants take networks whose"):
        LocalBounds(network)
    with pytest.raises(kd.InputError, match=r"node '_1' \(Tanh\): bounds of Jacobians take"):
        jacobian_bounds(network, bounds)
    with pytest.raises(kd.InputError, match=r"node '_1'.*Tanh"):
        propagated_moments(network, gaussian(torch.zeros(4), torch.eye(4)))
    square = kd.from_torch(nn.Sequential(nn.Linear(2, 2), nn.Tanh()), (2,))
    with pytest.raises(kd.InputError, match=r"node '_1'.*Tanh"):
        pair_radius(square, torch.zeros(2), InvertibilityOptions(0.1, 0.01))
    assert linear_pieces(square, kd.ball(torch.zeros(1, 2), 1.0)) is None


def test_lowered_networks_are_relu_networks() -> None:
    for kind in ("pooled", "leaky", "clipped"):
        ZOO[kind]().require_relus("lowered networks")
