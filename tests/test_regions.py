"""Every region, by one contract, and a user's own: concretisation, membership, projection, rows in a program."""

from __future__ import annotations

from dataclasses import dataclass, replace

import cvxpy
import numpy as np
import pytest
import torch
from networks import dense
from torch import Tensor

import kreludomain as kd
from kreludomain.branching.milp import MINIMUM, MilpAbstraction
from kreludomain.programs import certified_minimum, make_solver, relax_network
from kreludomain.property import Box, L2Ball, NormCone, Objective, RegionRows


@dataclass(frozen=True, eq=False)
class OwnBall(L2Ball):
    """A subclass of a built-in region, which says nothing new."""


@dataclass(frozen=True, eq=False)
class Budget(kd.Region):
    """The inputs of a box whose entries sum to at most ``total`` ``(B,)``: a polytope."""

    total: Tensor

    def _price(self, a: Tensor) -> Tensor:
        """A price of a unit of the sum, ``(B, m)``, at which minimising ``a . x`` keeps to the total; any is sound."""
        low = torch.zeros_like(a.flatten(2)[..., 0] + self.total[:, None])
        high = torch.full_like(low, float(a.abs().max()) + 1.0)
        for _ in range(60):
            price = (low + high) / 2
            over = self._cheapest(a, price).flatten(2).sum(2) > self.total[:, None]
            low, high = torch.where(over, price, low), torch.where(over, high, price)
        return high

    def _cheapest(self, a: Tensor, price: Tensor) -> Tensor:
        return Box(self.lower, self.upper).minimiser(a + price[..., None])

    def concretise(self, coefficients: Tensor) -> Tensor:
        price = self._price(coefficients)
        inside = Box(self.lower, self.upper).concretise(coefficients + price[..., None])
        return inside - price * self.total[:, None] - 1e-12 * price * self.total.abs()[:, None]

    def minimiser(self, coefficients: Tensor) -> Tensor:
        points = self._cheapest(coefficients, self._price(coefficients))  # one entry may take a part of its room
        spare = self.total[:, None] - points.sum(2)
        costs = coefficients.expand(points.shape)
        order = costs.argsort(2)
        for i in range(points.shape[2]):
            at = order[..., i : i + 1]
            wanted = torch.where(costs.gather(2, at) < 0, spare[..., None], 0.0)
            room = self.upper[:, None].expand(points.shape).gather(2, at) - points.gather(2, at)
            step = torch.minimum(wanted, room).clamp(min=0.0)
            points, spare = points.scatter_add(2, at, step.to(points)), spare - step[..., 0]
        return points

    def contains(self, x: Tensor) -> Tensor:
        return ((x >= self.lower) & (x <= self.upper)).all(1) & (x.sum(1) <= self.total)

    def project(self, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Towards the corner of the smallest entries, far enough to stay inside when rounded."""
        x = torch.minimum(torch.maximum(x, self.lower), self.upper)
        slack = 8 * torch.finfo(dtype).eps * x.shape[1] * float(self.upper.abs().max())
        least = self.lower.sum(1)
        share = ((self.total - slack - least) / (x.sum(1) - least).clamp(min=1e-300)).clamp(0.0, 1.0)
        moved = self.lower + (x - self.lower) * share[:, None]
        return torch.minimum(torch.maximum(moved, self.lower), self.upper)

    def program_rows(self) -> RegionRows | None:
        return RegionRows.linear(np.ones((1, self.lower.numel())), upper=float(self.total))


class SilentBudget(Budget):
    """The same without rows."""

    def program_rows(self) -> RegionRows | None:
        return None


@dataclass(frozen=True, eq=False)
class Ellipsoid(kd.Region):
    """``||scale * (x - middle)||_2 <= 1``, with ``scale`` and ``middle`` ``(B, n)``; the box is its bounding box."""

    middle: Tensor
    scale: Tensor

    @classmethod
    def around(cls, middle: Tensor, scale: Tensor) -> Ellipsoid:
        return cls(middle - 1 / scale, middle + 1 / scale, middle, scale)

    def concretise(self, coefficients: Tensor) -> Tensor:
        spread = torch.linalg.vector_norm(coefficients / self.scale[:, None], dim=2)
        return (coefficients * self.middle[:, None]).sum(2) - spread * (1 + 1e-12) - 1e-12

    def minimiser(self, coefficients: Tensor) -> Tensor:
        direction = coefficients / self.scale[:, None]
        unit = direction / torch.linalg.vector_norm(direction, dim=2, keepdim=True)
        return self.middle[:, None] - unit / self.scale[:, None]

    def contains(self, x: Tensor) -> Tensor:
        return torch.linalg.vector_norm(self.scale * (x - self.middle), dim=1) <= 1

    def project(self, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        away = x - self.middle
        length = torch.linalg.vector_norm(self.scale * away, dim=1, keepdim=True) * (1 + 1e4 * torch.finfo(dtype).eps)
        return self.middle + away / length.clamp(min=1.0)

    def program_rows(self) -> RegionRows | None:
        scale, middle = self.scale[0].numpy(), self.middle[0].numpy()
        matrix = RegionRows.linear(np.diag(scale)).matrix
        return RegionRows.conic([NormCone(matrix, -scale * middle, 1.0)])


X = torch.tensor([[0.3, -0.2, 0.1], [0.0, 0.125, -0.4]], dtype=torch.float64)
LOW, HIGH = X - 0.5, X + 0.5
SCALE = torch.tensor([[2.0, 3.0, 5.0], [4.0, 2.0, 2.0]], dtype=torch.float64)

#: How far each entry goes; the second one of the second region is fixed.
RADIUS = torch.tensor([[0.2, 0.6, 0.4], [0.5, 0.0, 0.05]], dtype=torch.float64)

#: Regions in batches of two.
REGIONS: dict[str, kd.Region] = {
    "box": kd.box(LOW, HIGH),
    "l_inf": kd.ball(X, 0.4, clip=(-0.5, 0.5)),
    "l_1": kd.ball(X, 0.5, "1", clip=(-0.4, 0.4)),
    "l_2": kd.ball(X, 0.5, "2", clip=(-0.4, 0.4)),
    "l_inf by entry": kd.ball(X, RADIUS, clip=(-0.5, 0.5)),
    "l_1 by entry": kd.ball(X, RADIUS, "l1", clip=(-0.5, [0.4, 0.4, 0.2])),
    "l_2 by entry": kd.ball(X, RADIUS, "l2", clip=(-0.5, [0.4, 0.4, 0.2])),
    "l_2 by entry, whole": kd.ball(X, RADIUS, "l2"),
    "own ball": OwnBall(LOW, HIGH, X, 0.5),
    "budget": Budget(LOW, HIGH, torch.tensor([0.1, 0.2], dtype=torch.float64)),
    "ellipsoid": Ellipsoid.around(X, SCALE),
}


@pytest.fixture(params=REGIONS, ids=list(REGIONS))
def region(request: pytest.FixtureRequest) -> kd.Region:
    return REGIONS[request.param]


def rows(count: int = 20) -> Tensor:
    return torch.randn(1, count, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


# One contract --------------------------------------------------------------------------------------------------------


def test_concretisation_is_below_all_points_and_attained(region: kd.Region) -> None:
    least = region.concretise(rows())
    at = region.minimiser(rows())
    assert least.shape == (2, 20)
    assert at.shape == (2, 20, 3)
    attained = (rows() * at).sum(2)
    torch.testing.assert_close(attained, least, rtol=0, atol=1e-9)
    for i in range(region.batch):
        points = region[i].sample(2000, torch.Generator().manual_seed(i))
        assert bool(region[i].contains(points).all())
        assert (points @ rows()[0].T >= least[i]).all()


def test_batches_are_what_their_parts_are(region: kd.Region) -> None:
    together = region.concretise(rows())
    for i in range(region.batch):
        assert (region[i].batch, region[i].shape) == (1, (3,))
        torch.testing.assert_close(region[i].concretise(rows())[0], together[i], rtol=0, atol=1e-12)
    each = torch.cat([rows(), 2 * rows()])  # other rows for each region
    torch.testing.assert_close(region.concretise(each)[1], region[1].concretise(2 * rows())[0], rtol=0, atol=1e-12)


def test_projected_points_are_inside_also_when_they_are_rounded(region: kd.Region) -> None:
    far = 3 * torch.randn(500, 3, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    for one in (region[0], region[1]):
        assert bool(one.contains(one.project(far)).all())
        assert bool(one.contains(one.rounded(far).double()).all())
        inside = one.sample(100, torch.Generator().manual_seed(2))
        assert (inside >= one.lower).all()
        assert (inside <= one.upper).all()
        torch.testing.assert_close(one.project(inside), inside, rtol=0, atol=1e-10)


def test_regions_are_fitted_and_moved(region: kd.Region) -> None:
    network = dense(3, 4, 2)
    fitted = region.fit(network)
    assert type(fitted) is type(region)
    assert fitted.batch == 2
    assert region.to(torch.float32, torch.device("cpu")).lower.dtype == torch.float32
    single = region[0]._map(lambda value: value[0])
    assert single.fit(network).batch == 1
    with pytest.raises(kd.InputError, match="the network takes"):
        region.fit(dense(4, 4, 2))


def feasible(region: kd.Region, x: Tensor) -> bool:
    """Whether the rows of a region hold at a point of its box, for some auxiliary variables."""
    return _solve(region, None, x) < np.inf


def _solve(region: kd.Region, cost: Tensor | None, at: Tensor | None = None) -> float:
    declared = region.program_rows()
    assert declared is not None
    x, t = cvxpy.Variable(declared.inputs), cvxpy.Variable(max(len(declared.auxiliary_lower), 1))
    constraints = [x >= region.lower.flatten().numpy(), x <= region.upper.flatten().numpy()]
    constraints += [] if at is None else [x == at.numpy()]
    n, k = declared.inputs, len(declared.auxiliary_lower)
    if declared.matrix.shape[0]:
        value = declared.matrix[:, :n] @ x + (declared.matrix[:, n:] @ t if k else 0.0)
        for side, sign in ((declared.upper, 1.0), (declared.lower, -1.0)):
            there = np.flatnonzero(np.isfinite(side))
            constraints += [sign * value[there] <= sign * side[there]] if len(there) else []
    if k:
        constraints += [t >= declared.auxiliary_lower, t <= declared.auxiliary_upper]
    for cone in declared.cones:
        constraints.append(cvxpy.norm(cone.matrix @ x + cone.offset, 2) <= cone.radius)
    goal = cvxpy.Minimize(0 * cvxpy.sum(t) if cost is None else cost.numpy() @ x)
    return float(cvxpy.Problem(goal, constraints).solve(solver="CLARABEL"))


def test_rows_are_the_region(region: kd.Region) -> None:
    """The minimum over the rows is that of concretisation, and they hold at a point exactly if it is contained."""
    for i in range(region.batch):
        one = region[i]
        least = one.concretise(rows(5))[0]
        for row, value in zip(rows(5)[0], least.tolist(), strict=True):
            assert _solve(one, row) == pytest.approx(value, abs=1e-6)
        unit = torch.rand(12, 3, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
        points = one.lower + unit * (one.upper - one.lower)
        assert [feasible(one, x) for x in points] == one.contains(points).tolist()


def test_only_boxes_are_boxes() -> None:
    assert {name for name, region in REGIONS.items() if region.is_box} == {"box", "l_inf", "l_inf by entry"}


# Around an input -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", ["inf", "1", "2"])
def test_entries_keep_their_value_whatever_the_clip(norm: str) -> None:
    x = torch.tensor([0.1, 5.0, -0.3], dtype=torch.float64)
    expected = kd.ball(x, [0.2, 0.0, 0.2], norm, clip=(-1, 6))
    for same in ({"fixed": [1]}, {"fixed": x > 1}, {"mask": np.array([1, 0, 1])}, {"mask": [True, False, True]}):
        region = kd.ball(x, 0.2, norm, clip=(-1, 1), **same)
        assert torch.equal(region.lower, torch.tensor([-0.1, 5.0, -0.5], dtype=torch.float64))
        torch.testing.assert_close(region.upper, expected.upper)
        fitted = region.fit(dense(3, 2))
        assert bool((fitted.sample(50)[:, 1] == 5.0).all())
        assert bool((fitted.rounded(torch.randn(50, 3, dtype=torch.float64))[:, 1] == 5.0).all())


def test_numbers_come_as_people_have_them() -> None:
    x = torch.tensor([[0.5, 0.25, 1.0]], dtype=torch.float64)
    expected = kd.ball(x, 8 / 255, clip=(0.0, 1.0))
    for given, epsilon in (
        ([[0.5, 0.25, 1.0]], "8/255"),
        (x.numpy().astype(np.float32), " 8 / 255"),
        (x.float(), ["8/255"] * 3),
        (x, np.full((1, 3), 8 / 255)),
        (x, torch.tensor(8 / 255, dtype=torch.float64)),
    ):
        region = kd.ball(given, epsilon, "Linf", clip=[np.float64(0), "255/255"])
        assert torch.equal(region.lower, expected.lower)
        assert torch.equal(region.upper, expected.upper)


@pytest.mark.parametrize("norm", ["inf", "1", "2"])
def test_a_normalised_region_is_the_images_put_through(norm: str) -> None:
    """An image is in the ball around an image exactly if its normalised form is in the normalised ball."""
    image = torch.rand(2, 3, 2, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    mean, std = (torch.tensor(v, dtype=torch.float64).view(3, 1, 1) for v in ([0.1, 0.4, 0.5], [0.2, 0.5, 2.0]))
    normalise = kd.Normalisation(mean, std)
    before, after = (kd.ball(image, "64/255", norm, clip=(0, 1), normalise=n) for n in (None, normalise))
    torch.testing.assert_close(after.center, (before.center - mean) / std)
    torch.testing.assert_close(after.lower, (before.lower - mean) / std)
    for i in range(2):
        unit = torch.rand(400, 3, 2, 2, generator=torch.Generator().manual_seed(i), dtype=torch.float64)
        near = before[i].lower + unit * (before[i].upper - before[i].lower)
        points = torch.cat([near, before[i].center + torch.rand(400, 1, 1, 1) * (near - before[i].center)])
        inside = before[i].contains(points)
        assert after[i].contains(normalise(points)).tolist() == inside.tolist()
        assert 0 < int(inside.sum()) <= 800
    a = torch.randn(1, 5, 3, 2, 2, generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    shift = (a * (mean / std)).flatten(2).sum(2)
    torch.testing.assert_close(after.concretise(a), before.concretise(a / std) - shift, rtol=0, atol=1e-8)


# In a program --------------------------------------------------------------------------------------------------------


def bounds_of(network: kd.Network, region: kd.Region, method: str = "lp") -> kd.LowerBounds:
    objective = Objective.linear(network, network.output.name, torch.eye(2, dtype=torch.float64))
    return kd.abstract(network, region, method).minimise(objective)


@pytest.mark.parametrize("method", ["lp", "krelu-lp"])
def test_a_subclass_is_as_tight_as_the_built_in(method: str) -> None:
    network, built_in = dense(3, 8, 6, 2, seed=1), L2Ball(LOW[:1], HIGH[:1], X[:1], 0.5)
    own = OwnBall(LOW[:1], HIGH[:1], X[:1], 0.5)
    found, expected = (bounds_of(network, region, method) for region in (own, built_in))
    torch.testing.assert_close(found.lower, expected.lower, rtol=0, atol=1e-6)
    assert found.notes == expected.notes == ()
    assert (found.lower > bounds_of(network, kd.box(own.lower, own.upper), method).lower + 1e-3).any()


def test_a_polytope_is_as_tight_as_a_box_with_its_rows() -> None:
    """The program over the polytope, against the one over the box with the same row put in by hand."""
    network = dense(3, 8, 6, 2, seed=1)
    budget = Budget(LOW[:1], HIGH[:1], torch.tensor([0.1], dtype=torch.float64))
    abstraction = kd.abstract(network, budget, "deeppoly")
    relaxed = relax_network(abstraction)
    objective = Objective.linear(network, network.output.name, torch.eye(2, dtype=torch.float64))
    costs, constants = relaxed.costs(objective)
    by_hand = replace(relaxed.program.with_region_rows(), region=kd.box(budget.lower, budget.upper).fit(network))
    session = make_solver("highspy", kd.box(budget.lower, budget.upper)).prepare(by_hand)
    found = bounds_of(network, budget)
    for row in range(2):
        dual = session.minimise(costs[row], np.inf).dual
        assert dual is not None
        value = certified_minimum(by_hand, costs[row], dual) + float(constants[row])
        assert float(found.lower[0, row]) == pytest.approx(value, abs=1e-6)
    points = network(budget.sample(5000, torch.Generator().manual_seed(0)))
    assert (found.lower[0] <= points.amin(0)).all()


def test_an_ellipsoid_of_ones_own_is_as_tight_as_the_ball_that_it_is() -> None:
    network = dense(3, 8, 6, 2, seed=1)
    ball = L2Ball(LOW[:1], HIGH[:1], X[:1], 0.5)
    same = Ellipsoid.around(X[:1], torch.full((1, 3), 2.0, dtype=torch.float64))
    torch.testing.assert_close(bounds_of(network, same).lower, bounds_of(network, ball).lower, rtol=0, atol=1e-6)


@pytest.mark.parametrize("method", ["lp", "krelu-lp"])
def test_a_region_without_rows_is_told_so(method: str) -> None:
    """Never looser without a word: the certificate carries the note, and the bound is still sound."""
    network, total = dense(3, 8, 6, 2, seed=1), torch.tensor([0.1], dtype=torch.float64)
    silent, said = SilentBudget(LOW[:1], HIGH[:1], total), Budget(LOW[:1], HIGH[:1], total)
    claim = kd.claim(torch.eye(2, dtype=torch.float64), torch.full((2,), 100.0, dtype=torch.float64))
    result = kd.certify(network, silent, claim, method, tight=True, attack=False)
    note = "the own shape of SilentBudget is not in the program (no program_rows): its bounding box is used"
    assert any(note in each for each in result.notes)
    assert not any("program_rows" in each for each in kd.certify(network, said, claim, method, tight=True).notes)
    found = bounds_of(network, silent, method).lower
    assert (found <= bounds_of(network, said, method).lower + 1e-7).all()
    assert (found[0] <= network(silent.sample(5000, torch.Generator().manual_seed(0))).amin(0)).all()


def test_exact_minima_over_a_polytope_of_ones_own() -> None:
    """With rows the mixed-integer search comes to the minimum; without, it is told that it has the box instead."""
    network, total = dense(3, 5, 4, 2, seed=1), torch.tensor([0.1], dtype=torch.float64)
    objective = Objective.linear(network, network.output.name, torch.eye(2, dtype=torch.float64))
    found = {}
    for kind in (Budget, SilentBudget):
        region = kind(LOW[:1], HIGH[:1], total)
        exact = MilpAbstraction.over(kd.abstract(network, region, "deeppoly"))
        found[kind] = exact.minimise(objective)
        assert (found[kind].lower[0] <= network(region.sample(5000, torch.Generator().manual_seed(0))).amin(0)).all()
    for tree, lower in zip(exact.search(objective, cutoffs=MINIMUM), found[Budget].lower[0].tolist(), strict=True):
        assert tree.lower <= lower + 1e-6
        assert tree.point is not None
        assert bool(region.contains(tree.point).all())
    assert found[Budget].notes == ()
    assert any("its bounding box is used" in note for note in found[SilentBudget].notes)


def test_rows_that_are_wrong_bound_nothing_too_high() -> None:
    """Rows that cut off most of the region: multipliers are worse, the certified bound stays below the samples."""
    network, total = dense(3, 8, 6, 2, seed=1), torch.tensor([0.1], dtype=torch.float64)

    class Wrong(Budget):
        def program_rows(self) -> RegionRows | None:
            return RegionRows.linear(np.ones((1, 3)), upper=-1.0)

    wrong = Wrong(LOW[:1], HIGH[:1], total)
    found = bounds_of(network, wrong).lower
    assert (found[0] <= network(wrong.sample(5000, torch.Generator().manual_seed(0))).amin(0)).all()


def test_rows_that_do_not_fit_are_refused() -> None:
    with pytest.raises(kd.InputError, match="region: 2 rows, but sides of shapes"):
        RegionRows(RegionRows.linear(np.ones((2, 3))).matrix, np.zeros(1), np.zeros(2), np.zeros(0), np.zeros(0))
    with pytest.raises(kd.InputError, match="auxiliary variables need finite bounds"):
        RegionRows(RegionRows.none(3).matrix, np.zeros(0), np.zeros(0), np.zeros(1), np.full(1, np.inf))
    with pytest.raises(kd.InputError, match="a cone over 2 entries, the rows have 3"):
        replace(RegionRows.none(3), cones=(NormCone.ball(np.zeros(2), np.ones(2)),))
