"""Every method is sound on every kind of network and region, and exact where nothing is unstable."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import lru_cache

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import CURVED, ZOO, dense, inputs
from torch import Tensor, nn

from kreludomain.activations import LOWER_SLOPES, Relu
from kreludomain.domain import Abstraction, Bounds, DeepPoly, Interval, Query, Zonotope
from kreludomain.domain.relaxation import ConstantRelaxation
from kreludomain.errors import InputError
from kreludomain.network import Network, from_torch
from kreludomain.property import Objective, Region, ball, box, robustness

#: Far above what float64 does to a sampled value, far below anything a wrong bound would be off by.
TOLERANCE = 1e-10
BATCH = 2

Tested = Interval | Zonotope | DeepPoly
METHODS: dict[str, Tested] = {
    "interval": Interval(),
    "zonotope": Zonotope(),
    "area": DeepPoly("area"),
    "parallel": DeepPoly("parallel"),
    "zero": DeepPoly("zero"),
    "unstable": DeepPoly(neurons="unstable"),
}
#: Radius, norm and clip by name. At these radii a quarter to a half of the neurons is unstable.
REGIONS: dict[str, tuple[float, str | int, tuple[float, float] | None]] = {
    "inf": (0.2, "inf", None),
    "inf, clipped": (0.4, "inf", (-0.3, 0.4)),
    "l1": (0.9, 1, None),
    "l1, clipped": (1.5, 1, (-0.5, 0.6)),
    "l2": (0.5, 2, None),
    "l2, clipped": (0.8, 2, (-0.5, 0.6)),
}

methods = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
ALL = {**ZOO, **CURVED}
names = pytest.mark.parametrize("name", ALL)
#: Every region for the networks that show most, two for the others.
OTHERS = ("pooled", "leaky", "clipped", *CURVED)
QUESTIONS = [(name, kind) for name in ALL for kind in REGIONS if name not in OTHERS or kind in ("inf, clipped", "l2")]
questions = pytest.mark.parametrize(("name", "kind"), QUESTIONS)
few_kinds = pytest.mark.parametrize("kind", ["inf, clipped", "l2"])


@dataclass(frozen=True)
class Case:
    """A network, a batch of regions, some objectives, and which values both take at many points of each region."""

    network: Network
    region: Region
    objectives: tuple[Objective, ...]
    values: dict[str, Bounds]
    attained: tuple[Bounds, ...]


@lru_cache
def case(name: str, kind: str) -> Case:
    network = ALL[name]()
    epsilon, norm, clip = REGIONS[kind]
    x = inputs(network, BATCH, seed=7, scale=0.5)
    x = x if clip is None else x.clamp(*clip)
    region = ball(x, epsilon, norm, clip)
    asked = {network.input.name, *network.pre_activations, *(a.name for a in network.activations), network.output.name}
    objectives = tuple(
        Objective.linear(network, node, draw(BATCH, 4, network.size(node)), draw(BATCH, 4, seed=1))
        for node in sorted(asked)
    )
    sampled = [network.values(hard_points(network, region[i])) for i in range(BATCH)]
    values = {node.name: hull([v[node.name] for v in sampled]) for node in network.nodes}
    attained = tuple(hull([alone(o, i).evaluate(v[o.node]) for i, v in enumerate(sampled)]) for o in objectives)
    return Case(network, region, objectives, values, attained)


def hull(values: list[Tensor]) -> Bounds:
    """Smallest and largest values over the samples, for each region of a batch."""
    return Bounds(torch.stack([v.amin(0) for v in values]), torch.stack([v.amax(0) for v in values]))


@lru_cache
def abstraction_of(method: Tested, name: str, kind: str) -> Abstraction:
    return method.abstract(Query(case(name, kind).network, case(name, kind).region))


def alone(objective: Objective, position: int) -> Objective:
    """The expressions of one region of a batch."""
    part = slice(position, position + 1)
    return Objective(objective.node, objective.coefficients[part], objective.constant[part])


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def hard_points(network: Network, region: Region) -> Tensor:
    """Points of a region (batch of one): sampled, corners, and what projected gradient finds for every neuron."""
    generator = torch.Generator().manual_seed(0)
    corner = torch.rand((200, *region.shape), generator=generator) < 0.5
    points = [region.sample(200, generator), region.project(torch.where(corner, region.lower, region.upper))]
    for name in (*network.pre_activations, network.output.name):
        size = network.size(name)
        rows = torch.cat([torch.eye(size, dtype=torch.float64), draw(8, size)])
        rows = torch.cat([rows, -rows])
        x = region.center.repeat(len(rows), *[1] * len(region.shape))
        for step in range(12):
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad((network.values(x)[name].flatten(1) * rows).sum(), x)
            direction = gradient.sign() if step % 2 else gradient / (gradient.abs().amax() + 1e-300)
            x = region.project(x.detach() - direction * (region.upper - region.lower))
            points.append(x)
    return torch.cat(points)


def assert_within(inner: Bounds, outer: Bounds, tolerance: float = TOLERANCE) -> None:
    assert (inner.lower >= outer.lower - tolerance).all()
    assert (inner.upper <= outer.upper + tolerance).all()


# ---- soundness ------------------------------------------------------------------------------------------------------


@methods
@questions
def test_values_satisfy_the_bounds_of_every_node(method: Tested, name: str, kind: str) -> None:
    """And the comparison is not empty: the regions leave neurons unstable."""
    made, abstraction = case(name, kind), abstraction_of(method, name, kind)
    assert list(abstraction.bounds) == [node.name for node in made.network.nodes]
    assert any(bool(abstraction.bounds[n].unstable.any()) for n in made.network.pre_activations[1:])
    for node in made.network.nodes:
        bounds = abstraction.bounds[node.name]
        assert bounds.lower.shape == bounds.upper.shape == (BATCH, *node.shape)
        assert_within(made.values[node.name], bounds)


@methods
@questions
def test_minima_are_never_above_sampled_values(method: Tested, name: str, kind: str) -> None:
    """Objectives at every node, other coefficients for every region of the batch."""
    made, abstraction = case(name, kind), abstraction_of(method, name, kind)
    for objective, attained in zip(made.objectives, made.attained, strict=True):
        lower = abstraction.minimise(objective).lower
        assert lower.shape == (BATCH, objective.count)
        assert (lower <= attained.lower + TOLERANCE).all()
        assert_within(attained, abstraction.extrema(objective))


@methods
@pytest.mark.parametrize("seed", range(4))
def test_small_integer_weights(method: Tested, seed: int) -> None:
    """Equal and parallel neurons, and bounds that are exactly zero, over a region with integer ends."""
    network = dense(3, 4, 4, 4, 2, seed=seed, integer=True)
    region = box(-torch.ones(1, 3), torch.ones(1, 3))
    abstraction = method.abstract(Query(network, region))
    for name, value in network.values(hard_points(network, region)).items():
        assert_within(hull([value]), abstraction.bounds[name])


class Branches(nn.Module):
    """A stem with ReLU, then two branches with ReLUs of their own that are added: noise symbols of three origins."""

    def __init__(self, left: int, right: int) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        self.left = nn.Sequential(nn.Linear(4, left), nn.ReLU(), nn.Linear(left, 4))
        self.right = nn.Sequential(nn.Linear(4, right), nn.ReLU(), nn.Linear(right, 4), nn.ReLU(), nn.Linear(4, 4))
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(4, 2))

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        result: Tensor = self.head(self.left(x) - self.right(x) + x)
        return result


@lru_cache
def branches(left: int, right: int, seed: int) -> tuple[Network, Region, dict[str, Bounds]]:
    """A network, a region, and what values its nodes take."""
    torch.manual_seed(seed)
    module = Branches(left, right)
    for parameter in module.parameters():
        parameter.data *= 2
    network, region = from_torch(module, (3,)), ball(draw(1, 3, seed=seed) / 2, 0.5)
    values = network.values(hard_points(network, region))
    return network, region, {name: hull([value]) for name, value in values.items()}


@methods
@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize(("left", "right"), [(2, 6), (6, 2), (4, 4)])
def test_fresh_noise_in_both_branches(method: Tested, left: int, right: int, seed: int) -> None:
    network, region, values = branches(left, right, seed)
    bounds = method.abstract(Query(network, region)).bounds
    for name, value in values.items():
        assert_within(value, bounds[name])


class Cancelling(nn.Module):
    """``stem(x) + 0 * relu(stem(x) - 1/2) - stem(x)``: zero, for whoever sees that the branches share the stem."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Sequential(nn.Linear(3, 4), nn.ReLU())
        last = nn.Linear(4, 4, bias=False)
        last.weight.data.zero_()
        self.fresh = nn.Sequential(nn.Linear(4, 4), nn.ReLU(), last)

    def forward(self, x: Tensor) -> Tensor:
        x = self.stem(x)
        result: Tensor = (x + self.fresh(x)) - x
        return result


@pytest.mark.parametrize("method", [Zonotope(), DeepPoly(), DeepPoly("parallel"), DeepPoly("zero")], ids=str)
def test_what_branches_share_cancels(method: Tested) -> None:
    torch.manual_seed(0)
    network = from_torch(Cancelling(), (3,))
    region = ball(torch.zeros(1, 3), 1.0)
    bounds = method.abstract(Query(network, region)).bounds
    assert bounds[network.pre_activations[0]].unstable.any()
    assert float(bounds[network.output.name].width.max()) < 1e-9
    interval = Interval().abstract(Query(network, region)).bounds
    assert float(interval[network.output.name].width.max()) > 0.1


# ---- tightness ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m for n, m in METHODS.items() if n != "interval"], ids=list(METHODS)[1:])
@pytest.mark.parametrize("norm", ["inf", 1, 2])
@names
def test_exact_where_nothing_is_unstable(method: Tested, name: str, norm: str | int) -> None:
    """Over a tiny region the network is affine: its gradient gives the minimum."""
    network = ALL[name]()
    x = inputs(network, 1, seed=7, scale=0.5) + 1e-3  # away from the integers, where neurons are exactly zero
    region = ball(x, 1e-6, norm)
    abstraction = method.abstract(Query(network, region))
    # Up to rounding: a maximum may compare what is equal.
    sides = [(abstraction.bounds[n].lower, abstraction.bounds[n].upper) for n in network.pre_activations]
    assert not any(((low < -1e-12) & (high > 1e-12)).any() for low, high in sides)
    objective = robustness(0, 3).objective(network)
    jacobian = torch.func.jacrev(lambda z: objective.evaluate(network(z))[0])(x)[:, 0]
    expected = objective.evaluate(network(x)) - (jacobian * x).flatten(1).sum(1) + region.concretise(jacobian[None])
    torch.testing.assert_close(abstraction.minimise(objective).lower, expected, rtol=0, atol=1e-10)


@pytest.mark.parametrize("method", [m for n, m in METHODS.items() if n not in ("interval", "unstable")], ids=str)
@questions
def test_first_layer_is_exact(method: Tested, name: str, kind: str) -> None:
    made = case(name, kind)
    network, first = made.network, made.network.pre_activations[0]
    bounds = abstraction_of(method, name, kind).bounds[first]
    objective = Objective.neurons(network, first, torch.arange(network.size(first))).pulled_back(network)
    assert objective.node == network.input.name
    expected = made.region.concretise(objective.coefficients) + objective.constant
    torch.testing.assert_close(bounds.lower.flatten(1), expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("method", [Zonotope(), DeepPoly()], ids=str)
def test_affine_layers_in_a_row_are_one(method: Tested) -> None:
    torch.manual_seed(0)
    module = nn.Sequential(nn.Linear(4, 5), nn.Linear(5, 5), nn.ReLU(), nn.Linear(5, 2))
    network, region = from_torch(module, (4,)), ball(draw(2, 4), 0.5)
    first = network.pre_activations[0]
    bounds = method.abstract(Query(network, region)).bounds[first]
    objective = Objective.neurons(network, first, torch.arange(5)).pulled_back(network)
    expected = region.concretise(objective.coefficients) + objective.constant
    torch.testing.assert_close(bounds.lower, expected, rtol=0, atol=1e-9)


def test_the_example_of_the_deeppoly_paper() -> None:
    """Figure 3 of Singh et al. 2019: bounds of every layer, and the margin that proves the claim."""
    layers = [nn.Linear(2, 2, dtype=torch.float64) for _ in range(3)]
    weights = [[[1, 1], [1, -1]], [[1, 1], [1, -1]], [[1, 1], [0, 1]]]
    biases = [[0, 0], [0, 0], [1, 0]]
    for layer, weight, bias in zip(layers, weights, biases, strict=True):
        layer.weight.data = torch.tensor(weight, dtype=torch.float64)
        layer.bias.data = torch.tensor(bias, dtype=torch.float64)
    network = from_torch(nn.Sequential(layers[0], nn.ReLU(), layers[1], nn.ReLU(), layers[2]), (2,))
    abstraction = DeepPoly("zero").abstract(Query(network, box(-torch.ones(1, 2), torch.ones(1, 2))))
    expected: list[list[list[float]]] = [[[-2, -2], [2, 2]], [[0, -2], [3, 2]], [[1, 0], [5.5, 2]]]
    for name, ends in zip([*network.pre_activations, network.output.name], expected, strict=True):
        got = torch.cat([abstraction.bounds[name].lower, abstraction.bounds[name].upper])
        torch.testing.assert_close(got, torch.tensor(ends, dtype=torch.float64))
    margin = abstraction.minimise(robustness(0, 2).objective(network)).lower
    torch.testing.assert_close(margin, torch.ones(1, 1, dtype=torch.float64))


@methods
@questions
def test_no_method_is_looser_than_intervals(method: Tested, name: str, kind: str) -> None:
    made = case(name, kind)
    wide, tight = (abstraction_of(m, name, kind).bounds for m in (Interval(), method))
    for node in made.network.nodes:
        assert_within(tight[node.name], wide[node.name], 1e-12)
    output = made.network.output.name
    if method == DeepPoly(lower_slope="zero") and name in ("pooled", "clipped"):
        return  # the one rule that can lose on chains of ReLUs what back-substitution gains
    assert method == Interval() or float(tight[output].width.sum()) < 0.99 * float(wide[output].width.sum())


# ---- batches and memory ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", [m for n, m in METHODS.items() if n != "unstable"], ids=list(METHODS)[:-1])
@few_kinds
@pytest.mark.parametrize("name", [name for name in ALL if name != "pooled"])
def test_a_batch_equals_its_regions_one_by_one(method: Tested, name: str, kind: str) -> None:
    """Not for ``unstable`` and maxima: a neuron that any region of the batch leaves open is bounded for all of them."""
    made, together = case(name, kind), abstraction_of(method, name, kind)
    for i in range(BATCH):
        single = method.abstract(Query(made.network, made.region[i]))
        for node in made.network.nodes:
            many, one = together.bounds[node.name][i], single.bounds[node.name]
            torch.testing.assert_close(many.lower, one.lower, rtol=0, atol=1e-9)
            torch.testing.assert_close(many.upper, one.upper, rtol=0, atol=1e-9)
        for objective in made.objectives:
            got = together.minimise(objective).lower[i : i + 1]
            torch.testing.assert_close(got, single.minimise(alone(objective, i)).lower, rtol=0, atol=1e-9)


@methods
@names
def test_one_objective_for_all_regions(method: Tested, name: str) -> None:
    made = case(name, "inf")
    abstraction = method.abstract(Query(made.network, made.region))
    shared = robustness(1, 3).objective(made.network)
    each = Objective(shared.node, shared.coefficients.expand(BATCH, -1, -1), shared.constant.expand(BATCH, -1))
    assert shared.coefficients.shape[0] == 1
    torch.testing.assert_close(abstraction.minimise(shared).lower, abstraction.minimise(each).lower)


@methods
def test_unbatched_regions_are_taken(method: Tested) -> None:
    network = ZOO["conv"]()
    x = inputs(network, 1)
    one, many = method.abstract(Query(network, ball(x[0], 0.1))), method.abstract(Query(network, ball(x, 0.1)))
    for node in network.nodes:
        torch.testing.assert_close(one.bounds[node.name].lower, many.bounds[node.name].lower)


@names
def test_little_memory_gives_the_same_bounds(name: str) -> None:
    made = case(name, "l2")
    little, much = (DeepPoly(memory_mb=m).abstract(Query(made.network, made.region)) for m in (1, 512))
    for node in made.network.nodes:
        torch.testing.assert_close(little.bounds[node.name].lower, much.bounds[node.name].lower)
    for objective in made.objectives:
        torch.testing.assert_close(little.minimise(objective).lower, much.minimise(objective).lower)


@pytest.mark.parametrize("kind", REGIONS)
@pytest.mark.parametrize("name", ["dense", "conv"])
def test_bounding_unstable_neurons_only_loses_nothing_above(name: str, kind: str) -> None:
    """Where back-substitution beats intervals at every neuron, the relaxation is the same as with all bounded."""
    made = case(name, kind)
    some, every = (abstraction_of(METHODS[m], name, kind) for m in ("unstable", "area"))
    for pre in made.network.pre_activations:
        unstable = every.bounds[pre].unstable
        assert torch.equal(some.bounds[pre].unstable, unstable)
        torch.testing.assert_close(some.bounds[pre].lower[unstable], every.bounds[pre].lower[unstable])
        torch.testing.assert_close(some.bounds[pre].upper[unstable], every.bounds[pre].upper[unstable])
    objective = robustness(0, 3).objective(made.network)
    torch.testing.assert_close(some.minimise(objective).lower, every.minimise(objective).lower)


# ---- known bounds ---------------------------------------------------------------------------------------------------


@methods
@few_kinds
@names
def test_known_bounds_only_tighten(method: Tested, name: str, kind: str) -> None:
    """Hulls of the sampled values at some nodes, a little widened: never left, and nothing above them gets unsound."""
    made = case(name, kind)
    hulls = {pre: made.values[pre] for pre in made.network.pre_activations}
    known = {pre: Bounds(v.lower - 1e-3, v.upper + 1e-3) for pre, v in hulls.items()}
    plain, helped = (
        abstraction_of(method, name, kind),
        method.abstract(Query(made.network, made.region, prior_bounds=known)),
    )
    for pre, bounds in known.items():
        assert_within(helped.bounds[pre], bounds, 0.0)
    if method != METHODS["unstable"]:  # it does not bound again what the known bounds make stable
        first = made.network.pre_activations[0]
        assert_within(helped.bounds[first], plain.bounds[first], 0.0)
    if method == Interval():
        for node in made.network.nodes:
            assert_within(helped.bounds[node.name], plain.bounds[node.name], 0.0)
        output = made.network.output.name
        assert helped.bounds[output].width.sum() < plain.bounds[output].width.sum()
    for node in made.network.nodes:
        assert_within(made.values[node.name], helped.bounds[node.name])
    for objective, attained in zip(made.objectives, made.attained, strict=True):
        assert (helped.minimise(objective).lower <= attained.lower + TOLERANCE).all()


@methods
def test_wide_known_bounds_change_nothing(method: Tested) -> None:
    """At every node, one pair of numbers for the whole batch."""
    made = case("residual", "inf")
    known = {n.name: Bounds(torch.full(n.shape, -1e9), torch.full(n.shape, 1e9)) for n in made.network.nodes}
    plain, helped = (
        method.abstract(Query(made.network, made.region, prior_bounds=k or {})).bounds for k in (None, known)
    )
    for node in made.network.nodes:
        torch.testing.assert_close(helped[node.name].lower, plain[node.name].lower)
        torch.testing.assert_close(helped[node.name].upper, plain[node.name].upper)


@methods
@pytest.mark.parametrize(
    ("node", "lower", "upper", "message"),
    [
        ("_1", torch.zeros(7), torch.ones(7), r"bounds of '_1': shape \(7,\), the node has \(2, 8\)"),
        ("_1", torch.zeros(3, 8), torch.ones(3, 8), r"bounds of '_1': shape \(3, 8\)"),
        ("_1", torch.zeros(8), torch.ones(5), "bounds of '_1': shape"),
        ("nowhere", torch.zeros(8), torch.ones(8), "no node 'nowhere'.*_1"),
        ("_1", torch.full((8,), math.nan), torch.ones(8), "bounds of '_1'"),
        ("_1", torch.zeros(8), torch.full((8,), math.nan), "bounds of '_1'"),
        ("_1", torch.ones(8), torch.zeros(8), "bounds of '_1': a lower bound is above"),
    ],
)
def test_bad_known_bounds_are_errors(method: Tested, node: str, lower: Tensor, upper: Tensor, message: str) -> None:
    made = case("dense", "inf")
    with pytest.raises(InputError, match=message) as caught:
        method.abstract(Query(made.network, made.region, prior_bounds={node: Bounds(lower, upper)}))
    assert "\n" not in str(caught.value)


@methods
def test_an_infinite_known_bound_is_none(method: Tested) -> None:
    made = case("dense", "inf")
    infinite = Bounds(torch.full((8,), -math.inf), torch.full((8,), math.inf))
    known = method.abstract(Query(made.network, made.region, prior_bounds={"_1": infinite})).bounds
    plain = method.abstract(Query(made.network, made.region)).bounds
    for name, bounds in plain.items():
        assert torch.equal(bounds.lower, known[name].lower)
        assert torch.equal(bounds.upper, known[name].upper)


@methods
def test_regions_that_do_not_fit_are_errors(method: Tested) -> None:
    with pytest.raises(InputError, match=r"shape \(1, 4\), the network takes"):
        method.abstract(Query(case("dense", "inf").network, ball(torch.zeros(1, 4), 0.1)))


@pytest.mark.parametrize("options", [{"lower_slope": "best"}, {"neurons": "some"}, {"memory_mb": 0}], ids=str)
def test_bad_options_are_errors(options: dict[str, object]) -> None:
    (name,) = options
    with pytest.raises(InputError, match=f"^{name}: "):
        DeepPoly(**options)  # type: ignore[arg-type]


# ---- lines around ReLU ----------------------------------------------------------------------------------------------

ends = st.floats(-1e4, 1e4, allow_subnormal=False)


@settings(max_examples=200, deadline=None)
@given(st.sampled_from(sorted(LOWER_SLOPES)), st.lists(st.tuples(ends, ends), min_size=1, max_size=8))
def test_lines_lie_below_and_above(rule: str, pairs: list[tuple[float, float]]) -> None:
    lower, upper = torch.tensor([sorted(p) for p in pairs], dtype=torch.float64).unbind(1)
    lines = Relu().relax(lower[None], upper[None], rule)
    for share in torch.linspace(0, 1, 11, dtype=torch.float64):
        x = lower + share * (upper - lower)
        slack = 1e-12 * (lower.abs() + upper.abs())
        assert (lines.lower_slope * x <= x.clamp(min=0) + slack).all()
        assert (lines.upper_slope * x + lines.intercept >= x.clamp(min=0) - slack).all()
    assert ((lines.lower_slope >= 0) & (lines.lower_slope <= 1)).all()
    stable = (lower >= 0) | (upper <= 0)
    assert (lines.intercept[0, stable] == 0).all()
    assert torch.equal(lines.lower_slope[0, stable], lines.upper_slope[0, stable])
    assert torch.equal(lines.lower_slope[0, stable], (lower[stable] >= 0).double())


def test_lower_slopes_by_rule() -> None:
    bounds = Bounds(torch.tensor([[-1.0, -3.0]]).double(), torch.tensor([[3.0, 1.0]]).double())
    slopes = {rule: Relu().relax(bounds.lower, bounds.upper, rule).lower_slope[0].tolist() for rule in LOWER_SLOPES}
    assert slopes == {"area": [1.0, 0.0], "parallel": [0.75, 0.25], "zero": [0.0, 0.0]}
    lines = Relu().relax(bounds.lower, bounds.upper, "zero")
    assert lines.upper_slope[0].tolist() == [0.75, 0.25]
    assert lines.intercept[0].tolist() == [0.75, 0.75]


@pytest.mark.parametrize("rule", LOWER_SLOPES)
def test_expressions_stay_below_when_pushed_through_relu(rule: str) -> None:
    """``a . relu(x) >= a' . x + c``, with coefficients shared by a batch of bounds or one's own."""
    lower = draw(3, 5, seed=1)
    upper = lower + 2 * draw(3, 5, seed=2).abs()
    bounds = Bounds(lower, upper)
    x = lower + torch.rand(50, 3, 5, generator=torch.Generator().manual_seed(0), dtype=torch.float64) * bounds.width
    x = torch.cat([x, lower[None], upper[None]])
    for a in (draw(1, 4, 5), draw(3, 4, 5)):
        relaxation = Relu().relax(bounds.lower, bounds.upper, rule)
        (passed,), constant = relaxation.backward(a)
        value = torch.einsum("bmn,sbn->sbm", a.expand(3, -1, -1), x.clamp(min=0))
        line = torch.einsum("bmn,sbn->sbm", passed, x) + constant
        assert (value >= line - 1e-12).all()
        if rule == "parallel":
            continue
        tight = relaxation.backward(a.abs().neg())  # the chord alone: met at both ends
        at_ends = torch.einsum("bmn,sbn->sbm", tight[0][0], x[-2:]) + tight[1]
        expected = torch.einsum("bmn,sbn->sbm", -a.abs().expand(3, -1, -1), x[-2:].clamp(min=0))
        torch.testing.assert_close(at_ends, expected)


def test_constants_for_an_activation_are_attained() -> None:
    lower = draw(2, 3)
    upper = lower + draw(2, 3, seed=1).abs()
    a = draw(2, 4, 3, seed=2)
    nothing, constant = ConstantRelaxation(Bounds(lower, upper)).backward(a)
    assert nothing == ()
    worst = torch.where(a > 0, lower[:, None], upper[:, None])
    torch.testing.assert_close(constant, (a * worst).sum(2))


# ---- bounds ---------------------------------------------------------------------------------------------------------


def test_bounds_meet_and_are_replaced() -> None:
    bounds = Bounds(torch.tensor([[-1.0, -2.0, 0.0]]), torch.tensor([[1.0, 0.0, 3.0]]))
    assert bounds.unstable.tolist() == [[True, False, False]]
    assert bounds.width.tolist() == [[2.0, 2.0, 3.0]]
    both = bounds & Bounds(torch.tensor([[-2.0, -1.0, 1.0]]), torch.tensor([[0.5, 1.0, 2.0]]))
    assert both.lower.tolist() == [[-1.0, -1.0, 1.0]]
    assert both.upper.tolist() == [[0.5, 0.0, 2.0]]
    cut = bounds.tightened(torch.tensor([2, 0]), torch.tensor([[1.0, -5.0]]), torch.tensor([[2.0, 0.5]]))
    assert cut.lower.tolist() == [[-1.0, -2.0, 1.0]]
    assert cut.upper.tolist() == [[0.5, 0.0, 2.0]]
    assert bounds.upper.tolist() == [[1.0, 0.0, 3.0]]
