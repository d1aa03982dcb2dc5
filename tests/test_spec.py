"""Regions bound linear expressions exactly, claims and objectives say what they should."""

from __future__ import annotations

import math
from collections.abc import Callable

import cvxpy as cp
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ZOO, dense, inputs
from torch import Tensor

import kreludomain as kd
from kreludomain.errors import InputError
from kreludomain.property import Claim, L1Ball, L2Ball, Objective, Region, ball, box, chunk_rows, claim, robustness

NORMS = ["inf", 1, 2]
CLIPS = [None, (0.0, 1.0)]
SHAPE = (2, 3)


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def middles(count: int, seed: int = 0) -> Tensor:
    """Points of [0, 1], some of whose entries lie on its ends."""
    return (0.5 + 0.5 * draw(count, *SHAPE, seed=seed)).clamp(0, 1)


def dot(a: Tensor, x: Tensor) -> Tensor:
    """``a . x`` of every row and point: ``(m, *shape)`` and ``(N, *shape)`` to ``(N, m)``."""
    return x.flatten(1) @ a.flatten(1).T


# ---- regions: the minimum -------------------------------------------------------------------------------------------


def minimiser(a: Tensor, x: Tensor, epsilon: float, norm: str | int, clip: tuple[float, float] | None) -> Tensor:
    """The point of a ball where ``a . x`` is smallest, by cvxpy."""
    z = cp.Variable(x.numel())
    middle = x.flatten().numpy()
    constraints = [cp.norm(z - middle, norm) <= epsilon]
    if clip is not None:
        constraints += [z >= clip[0], z <= clip[1]]
    problem = cp.Problem(cp.Minimize(a.flatten().numpy() @ z), constraints)
    problem.solve(solver=cp.CLARABEL, tol_gap_abs=1e-9, tol_gap_rel=1e-9)
    return torch.from_numpy(z.value).reshape(x.shape)


@pytest.mark.parametrize("epsilon", [0.05, 0.7, 4.0])
@pytest.mark.parametrize("clip", CLIPS, ids=["whole", "clipped"])
@pytest.mark.parametrize("norm", NORMS)
def test_minimum_is_the_true_one(norm: str | int, clip: tuple[float, float] | None, epsilon: float) -> None:
    """Never above the value at cvxpy's minimiser (pulled into the region), and at most 1e-6 below it."""
    x, a = middles(2, seed=1), draw(2, 4, *SHAPE, seed=2)
    a[0, 0] = torch.tensor([1.0, -1.0, 1.0])  # ties
    a[:, 1, :, 1:] = 0.0
    region = ball(x, epsilon, norm, clip)
    got = region.concretise(a)
    for i in range(2):
        for row in range(4):
            point = minimiser(a[i, row], x[i], epsilon, norm, clip)[None]
            point = region[i].project(point)
            best = float(dot(a[i, row : row + 1], point))
            assert best - 1e-6 <= float(got[i, row]) <= best + 1e-9


@pytest.mark.parametrize("norm", NORMS)
def test_minimum_over_a_whole_ball_is_the_dual_norm(norm: str | int) -> None:
    x, a = draw(3, *SHAPE, seed=1), draw(1, 5, *SHAPE, seed=2)
    dual = {"inf": 1.0, 1: math.inf, 2: 2.0}[norm]
    expected = dot(a[0], x) - 0.3 * torch.linalg.vector_norm(a[0].flatten(1), ord=dual, dim=1)
    torch.testing.assert_close(ball(x, 0.3, norm).concretise(a), expected, rtol=0, atol=1e-9)


def test_minimum_over_a_box_is_attained_at_a_corner() -> None:
    lower = draw(2, *SHAPE, seed=1)
    upper = lower + draw(2, *SHAPE, seed=2).abs()
    upper[0, 0, 0] = lower[0, 0, 0]
    a, size = draw(2, 3, *SHAPE, seed=3), math.prod(SHAPE)
    side = torch.cartesian_prod(*[torch.tensor([False, True])] * size).reshape(-1, *SHAPE)
    for i in range(2):
        corners = torch.where(side, upper[i], lower[i])
        expected = dot(a[i], corners).amin(0)
        torch.testing.assert_close(box(lower, upper).concretise(a)[i], expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("clip", CLIPS, ids=["whole", "clipped"])
@pytest.mark.parametrize("norm", NORMS)
def test_no_radius_leaves_the_point(norm: str | int, clip: tuple[float, float] | None) -> None:
    x, a = middles(2), draw(2, 3, *SHAPE, seed=1)
    region = ball(x, 0, norm, clip)
    torch.testing.assert_close(region.concretise(a), torch.einsum("bmij,bij->bm", a, x), rtol=0, atol=1e-9)
    assert region.contains(x).all()


@pytest.mark.parametrize("clip", CLIPS, ids=["whole", "clipped"])
@pytest.mark.parametrize("norm", NORMS)
def test_one_row_for_all_regions_equals_a_row_each(norm: str | int, clip: tuple[float, float] | None) -> None:
    x, a = middles(3, seed=4), draw(1, 4, *SHAPE, seed=5)
    region = ball(x, 0.4, norm, clip)
    torch.testing.assert_close(region.concretise(a), region.concretise(a.expand(3, -1, -1, -1)), rtol=0, atol=1e-12)
    single = torch.cat([region[i].concretise(a) for i in range(3)])
    torch.testing.assert_close(region.concretise(a), single, rtol=0, atol=1e-12)


@settings(max_examples=60, deadline=None)
@given(
    st.sampled_from(NORMS),
    st.sampled_from(CLIPS),
    st.floats(1e-6, 1e3),
    st.floats(1e-6, 1e6),
    st.integers(0, 10**6),
)
def test_no_point_is_below_the_minimum(
    norm: str | int, clip: tuple[float, float] | None, epsilon: float, scale: float, seed: int
) -> None:
    """Coefficients and radii of all magnitudes; the points are sampled, or pushed against the coefficients."""
    x, a = middles(1, seed), scale * draw(3, *SHAPE, seed=seed + 1)
    region = ball(x, epsilon, norm, clip)
    points = torch.cat([region.sample(20, torch.Generator().manual_seed(seed)), region.project(x - 1e6 * a)])
    assert (region.concretise(a[None]) <= dot(a, points)).all()


@settings(max_examples=60, deadline=None)
@given(st.sampled_from(NORMS), st.sampled_from(CLIPS), st.floats(1e-6, 1e3), st.integers(0, 10**6))
def test_no_point_is_below_the_minimum_where_entries_differ(
    norm: str | int, clip: tuple[float, float] | None, epsilon: float, seed: int
) -> None:
    """Radii over eight decades in one ball, some of them 0."""
    x, a = middles(1, seed), draw(3, *SHAPE, seed=seed + 1)
    radius = epsilon * 10 ** (4 * draw(*SHAPE, seed=seed + 2).clamp(-1, 1)) * (draw(*SHAPE, seed=seed + 3) > -1)
    region = ball(x, radius, norm, clip)
    points = torch.cat([region.sample(20, torch.Generator().manual_seed(seed)), region.project(x - 1e6 * a)])
    assert region.contains(points).all()
    assert (points[:, radius == 0] == x[:, radius == 0]).all()
    assert (region.concretise(a[None]) <= dot(a, points)).all()


# ---- regions: points ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("epsilon", [0.01, 0.5, 3.0])
@pytest.mark.parametrize("clip", CLIPS, ids=["whole", "clipped"])
@pytest.mark.parametrize("norm", NORMS)
def test_sampled_and_projected_points_are_inside(
    norm: str | int, clip: tuple[float, float] | None, epsilon: float
) -> None:
    x = middles(1, seed=3)
    region, slightly_larger = ball(x, epsilon, norm, clip), ball(x, epsilon * (1 + 1e-9), norm, clip)
    ord_ = math.inf if norm == "inf" else norm
    for points in (
        region.sample(200, torch.Generator().manual_seed(0)),
        region.project(x + 10 * epsilon * draw(200, *SHAPE)),
    ):
        assert points.shape == (200, *SHAPE)
        distance = torch.linalg.vector_norm((points - x).flatten(1), ord=ord_, dim=1)
        assert (distance <= epsilon * (1 + 1e-12) + 1e-15).all()
        assert clip is None or ((points >= clip[0]) & (points <= clip[1])).all()
        assert slightly_larger.contains(points).all()
        assert float(distance.max()) > 0.3 * epsilon or clip is not None
    inside = region.sample(50)
    torch.testing.assert_close(region.project(inside), inside, rtol=0, atol=1e-12)


@pytest.mark.parametrize("norm", NORMS)
def test_points_outside_are_not_contained(norm: str | int) -> None:
    x = middles(2, seed=3)
    region = ball(x, 0.2, norm, (0.0, 1.0))
    assert region.contains(x).all()
    beyond, step = x.clone(), torch.zeros_like(x)
    beyond[:, 0, 0] = -1e-9
    step[1, 0, 0] = 0.2001 if x[1, 0, 0] < 0.5 else -0.2001
    assert not region.contains(beyond).any()
    assert region.contains(x + step).tolist() == [True, False]
    if norm != "inf":
        corner = torch.where(x > 0.5, x - 0.2, x + 0.2)  # inside the box, too far in every other norm
        assert not region.contains(corner).any()


def test_clipping_cuts_the_box() -> None:
    region = ball(torch.tensor([[0.1, 0.5, 1.0]]), 0.2, "inf", (0, 1))
    torch.testing.assert_close(region.lower, torch.tensor([[0.0, 0.3, 0.8]], dtype=torch.float64))
    torch.testing.assert_close(region.upper, torch.tensor([[0.3, 0.7, 1.0]], dtype=torch.float64))


@pytest.mark.parametrize("norm", ["inf", math.inf, "Linf", "l_inf", 1, 1.0, "1", "L1", "l-1", 2, 2.0, "2", "l2", "L_2"])
def test_norms_by_number_or_name(norm: str | float) -> None:
    region = ball(torch.zeros(1, 2), 1.0, norm)
    assert isinstance(region, L1Ball) == ("1" in str(norm))
    assert isinstance(region, L2Ball) == ("2" in str(norm))


# ---- regions: fitting and errors ------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_unbatched_regions_are_fitted(norm: str | int) -> None:
    network = ZOO["conv"]()
    x = inputs(network, 1).float()
    one, many = ball(x[0], 0.1, norm).fit(network), ball(x, 0.1, norm).fit(network)
    a = draw(1, 3, *network.input.shape)
    assert one.batch == many.batch == 1
    assert one.lower.dtype == torch.float64
    torch.testing.assert_close(one.concretise(a), many.concretise(a))
    single = network.to(dtype=torch.float32)
    assert ball(x, 0.1, norm).fit(single).lower.dtype == torch.float32


NAN = float("nan")
BAD: dict[str, tuple[Callable[[], object], str]] = {
    "empty box": (lambda: box(torch.tensor([[0.0, 2.0]]), torch.tensor([[1.0, 1.0]])), "empty, lower 2 > upper 1"),
    "box of two shapes": (lambda: box(torch.zeros(1, 2), torch.zeros(1, 3)), r"lower is \(1, 2\), upper is \(1, 3\)"),
    "NaN bound": (lambda: box(torch.tensor([[NAN]]), torch.tensor([[1.0]])), "NaN or infinite"),
    "infinite bound": (lambda: box(torch.tensor([[0.0]]), torch.tensor([[math.inf]])), "NaN or infinite"),
    "NaN middle": (lambda: ball(torch.tensor([[NAN]]), 0.1), "NaN or infinite"),
    "NaN middle of an l_2 ball": (lambda: ball(torch.tensor([[NAN]]), 0.1, 2, (0, 1)), "NaN or infinite"),
    "negative epsilon": (lambda: ball(torch.zeros(1, 2), -0.1), "epsilon -0.1 is not"),
    "NaN epsilon": (lambda: ball(torch.zeros(1, 2), NAN, 2), "epsilon nan is not"),
    "infinite epsilon": (lambda: ball(torch.zeros(1, 2), math.inf), "epsilon inf is not"),
    "norm": (lambda: ball(torch.zeros(1, 2), 0.1, 3), "norm: 3 is not one of inf, 1, 2"),
    "name of a norm": (lambda: ball(torch.zeros(1, 2), 0.1, "l3"), "norm: 'l3' is not one of inf, 1, 2"),
    "fraction": (lambda: ball(torch.zeros(1, 2), "8/0"), "epsilon: '8/0' is not a number or a fraction such as 8/255"),
    "epsilon by entry": (lambda: ball(torch.zeros(4), [1, 2, 3]), "epsilon: 3 values, the input has 4; give one, or 4"),
    "epsilon by channel": (
        lambda: ball(torch.zeros(3, 5, 5), [0.1, 0.2, 0.3]),
        r"epsilon: shape \(3,\) does not fit an input of \(3, 5, 5\); give shape \(3, 1, 1\) for one each along axis 0",
    ),
    "a negative entry": (lambda: ball(torch.zeros(2), [0.1, -0.2]), "epsilon -0.2 is not a number from 0 up"),
    "one side of a clip": (lambda: ball(torch.zeros(2), 0.1, clip=(0,)), "clip .* a low and a high value are expected"),
    "empty clip of an entry": (lambda: ball(torch.zeros(2), 0.1, clip=(0, [1, -1])), r"clip \[0, -1\] is empty"),
    "fixed entry": (lambda: ball(torch.zeros(3), 0.1, fixed=[3]), "fixed: there is no entry 3; they are 0 to 2"),
    "fixed names": (
        lambda: ball(torch.zeros(3), 0.1, fixed=["age"]),
        "fixed: neither a list of positions nor booleans",
    ),
    "mask": (lambda: ball(torch.zeros(2), 0.1, mask=[0.5, 1]), "mask: has entries other than true and false"),
    "std": (lambda: kd.Normalisation([0.5], [0.0]), "std: is not a number above 0"),
    "empty clip": (lambda: ball(torch.zeros(1, 2), 0.1, "inf", (1, 0)), r"clip \[1, 0\] is empty"),
    "NaN clip": (lambda: ball(torch.zeros(1, 2), 0.1, "inf", (NAN, 1)), "clip .* is empty"),
    "clipped away below": (
        lambda: ball(torch.full((1, 2), -1.0), 0.1, "inf", (0, 1)),
        r"further than epsilon outside clip \[0, 1\]: it is -1 at",
    ),
    "clipped away above": (lambda: ball(torch.full((1, 2), 2.0), 0.1, "inf", (0, 1)), "it is 2 at entry 0"),
    "middle outside the clip": (lambda: ball(torch.full((1, 2), 1.5), 0.7, 2, (0, 1)), "l_2 ball lies outside clip"),
    "shape": (
        lambda: ball(torch.zeros(1, 4), 0.1).fit(dense(5, 3)),
        r"\(1, 4\), the network takes \(batch,\) \+ \(5,\)",
    ),
    "no regions": (lambda: ball(torch.zeros(0, 5), 0.1).fit(dense(5, 3)), r"shape \(0, 5\)"),
    "label": (lambda: robustness(3, 3), "label 3 is not one of the 3 classes"),
    "negative label": (lambda: robustness(-1, 3), "label -1 is not"),
    "claim of a vector": (lambda: claim(torch.zeros(3)), r"C of shape \(3,\)"),
    "claim of two shapes": (lambda: claim(torch.zeros(2, 3), torch.zeros(3)), r"d of shape \(3,\) do not fit"),
    "NaN claim": (lambda: claim(torch.tensor([[NAN]])), "NaN"),
    "infinite claim": (lambda: claim(torch.zeros(1, 2), torch.tensor([math.inf])), "infinite"),
    "gap between clauses": (
        lambda: claim(torch.eye(2), clause=torch.tensor([0, 2])),
        r"numbered \[0, 2\]; 0, 1, ... without gaps",
    ),
    "too few clauses": (lambda: claim(torch.eye(2), clause=torch.tensor([0])), "clause is not 2 integers, one a row"),
    "non_strict numbers": (
        lambda: claim(torch.eye(2), non_strict=torch.ones(2)),
        "non_strict is not 2 booleans, one a row of C",
    ),
    "width of a claim": (
        lambda: claim(torch.zeros(1, 4)).objective(dense(5, 3)),
        "4 columns, the network has 3 outputs",
    ),
}


@pytest.mark.parametrize(("make", "message"), BAD.values(), ids=BAD.keys())
def test_bad_questions_are_one_line(make: Callable[[], object], message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        make()
    assert "\n" not in str(caught.value)


# ---- claims and objectives ------------------------------------------------------------------------------------------


def test_robustness_has_a_row_for_every_other_class() -> None:
    expected = torch.tensor([[-1.0, 1, 0, 0], [0, 1, -1, 0], [0, 1, 0, -1]], dtype=torch.float64)
    assert torch.equal(robustness(1, 4).C, expected)
    assert torch.equal(robustness(1, 4).d, torch.zeros(3, dtype=torch.float64))
    outputs = draw(20, 4)
    positive = (robustness(1, 4).margins(outputs) > 0).all(1)
    assert torch.equal(positive, outputs.argmax(1) == 1)


def clauses_by_hand(claim: Claim, margins: Tensor) -> list[list[bool]]:
    """Which clauses are true at each point: plain loops over rows."""
    non_strict = [False] * len(claim.C) if claim.non_strict is None else claim.non_strict.tolist()
    clauses = range(len(claim.C)) if claim.clause is None else claim.clause.tolist()
    true = [[v > 0 or (w and v == 0) for v, w in zip(row, non_strict, strict=True)] for row in margins.tolist()]
    return [
        [any(t for t, c in zip(row, clauses, strict=True) if c == number) for number in range(claim.clause_count)]
        for row in true
    ]


@given(st.data())
def test_clauses_are_conjunctions_of_disjunctions(data: st.DataObject) -> None:
    count = data.draw(st.integers(1, 4))
    extra = data.draw(st.lists(st.integers(0, count - 1), max_size=4))
    clause = torch.tensor(data.draw(st.permutations([*range(count), *extra])))
    non_strict = torch.tensor(data.draw(st.lists(st.booleans(), min_size=len(clause), max_size=len(clause))))
    made = claim(torch.eye(len(clause)), clause=clause, non_strict=non_strict)
    values = st.lists(st.sampled_from([-1.0, 0.0, 2.0]), min_size=len(clause), max_size=len(clause))
    margins = torch.tensor(data.draw(st.lists(values, min_size=1, max_size=5)), dtype=torch.float64)
    expected = clauses_by_hand(made, margins)
    assert made.clause_count == count
    assert made.proved(margins).tolist() == expected
    assert made.holds(margins).tolist() == [all(row) for row in expected]
    assert made.broken(margins).tolist() == [not all(row) for row in expected]
    clause_margins = torch.stack([margins[:, clause == number].amax(1) for number in range(count)], 1)
    assert torch.equal(made.clause_margins(margins), clause_margins)
    some = torch.tensor(data.draw(st.permutations(range(count)))[: data.draw(st.integers(1, count))])
    part, rows = made.select(some), made.select(some).margins(margins)
    assert part.proved(rows).tolist() == [[row[number] for number in some] for row in expected]


def test_what_is_not_a_number_proves_and_breaks_nothing() -> None:
    nan = float("nan")
    made = claim(torch.eye(3), clause=torch.tensor([0, 0, 1]), non_strict=torch.tensor([True, False, True]))
    margins = torch.tensor([[nan, -1.0, 1.0], [nan, 1.0, nan], [nan, 1.0, 0.0], [nan, nan, -1.0]])
    assert made.proved(margins).tolist() == [[False, True], [True, False], [True, True], [False, False]]
    assert made.holds(margins).tolist() == [False, False, True, False]
    assert made.broken(margins).tolist() == [False, False, False, True]


def test_rows_are_clauses_of_their_own_unless_told_otherwise() -> None:
    made, same = robustness(2, 5), claim(robustness(2, 5).C, clause=torch.arange(4), non_strict=torch.zeros(4).bool())
    margins = made.margins(draw(20, 5))
    assert made.clause_count == 4
    assert torch.equal(made.clause_margins(margins), margins)
    assert torch.equal(made.holds(margins), (margins > 0).all(1))
    assert torch.equal(same.holds(margins), made.holds(margins))
    assert not bool(made.holds(torch.zeros(1, 4)))


def test_margins_are_the_objective_at_the_output() -> None:
    network = ZOO["conv"]()
    made, outputs = claim(draw(4, 3), draw(4, seed=1)), network(inputs(network, 5))
    torch.testing.assert_close(made.margins(outputs), outputs @ made.C.T + made.d)
    torch.testing.assert_close(made.objective(network).evaluate(outputs), made.margins(outputs))


@pytest.mark.parametrize("name", ZOO)
@pytest.mark.parametrize("batch", [1, 3])
def test_pulled_back_objectives_have_the_same_value(name: str, batch: int) -> None:
    """At every node of every network; what comes back has no affine operator of one input under it."""
    network = ZOO[name]()
    values = network.values(inputs(network, 3))
    for node in network.nodes:
        objective = Objective.linear(
            network, node.name, draw(batch, 4, network.size(node.name), seed=1), draw(batch, 4, seed=2)
        )
        pulled = objective.pulled_back(network)
        torch.testing.assert_close(pulled.evaluate(values[pulled.node]), objective.evaluate(values[node.name]))
        source = network[pulled.node]
        assert source is network.input or source in network.activations or len(source.inputs) > 1


def test_objectives_of_neurons_and_their_parts() -> None:
    network = ZOO["residual"]()
    name = network.pre_activations[0]
    values = network.values(inputs(network, 2))[name]
    chosen = torch.tensor([5, 0, 17])
    objective = Objective.neurons(network, name, chosen)
    assert objective.count == 3
    torch.testing.assert_close(objective.evaluate(values), values.flatten(1)[:, chosen])
    torch.testing.assert_close((-objective).evaluate(values), -values.flatten(1)[:, chosen])
    parts = list(objective.chunks(2))
    assert [part.count for part in parts] == [2, 1]
    torch.testing.assert_close(torch.cat([p.evaluate(values) for p in parts], 1), objective.evaluate(values))
    assert [part.count for part in objective.chunks(0)] == [1, 1, 1]


def test_rows_at_once_fit_the_memory() -> None:
    network = dense(5, 200, 3)
    most = chunk_rows(network, network.output.name, batch=2, memory_mb=8)
    assert 8 * 200 * 2 * most <= 8 * 2**20
    assert chunk_rows(network, network.output.name, batch=2, memory_mb=16) in (2 * most, 2 * most + 1)
    assert chunk_rows(network, network.output.name, batch=10**9, memory_mb=1) == 1


def test_regions_are_indexed_by_position() -> None:
    region: Region = ball(middles(3), 0.1, 2)
    assert region.batch == 3
    assert region[1].batch == 1
    assert torch.equal(region[2].lower, region.lower[2:])
    assert torch.equal(region[2].center, region.center[2:])
