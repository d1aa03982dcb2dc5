"""Mixed-integer programs with certified bounds: the exact minimum, the sound side, deadlines, neurons' bounds."""

from __future__ import annotations

import dataclasses
import math
import time

import numpy as np
import pytest
import torch
from exact import exact_minima
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import conv, dense, residual

import kreludomain as kd
from kreludomain.branching.milp import (
    CLAIM,
    MINIMUM,
    MilpAbstraction,
    PhaseSession,
    Tree,
    TreeStatus,
    advance_all,
    phases,
    tighten,
)
from kreludomain.deadline import Deadline
from kreludomain.programs import RowColumnBounds, certified_minimum, relax_network
from kreludomain.programs.model import Program
from kreludomain.property import Objective

Problem = tuple[kd.Network, kd.Region, torch.Tensor]


def problem(seed: int, *widths: int, radius: float = 0.7, integer: bool = False) -> Problem:
    network = dense(*widths, seed=seed, integer=integer)
    region = kd.ball(torch.zeros(1, widths[0]), radius)
    rows = torch.cat([torch.eye(widths[-1]), -torch.eye(widths[-1])]).double()
    return network, region, rows


def over(network: kd.Network, region: kd.Region, threads: int = 1) -> MilpAbstraction:
    return MilpAbstraction.over(kd.abstract(network, region, "deeppoly"), threads)


def at_output(network: kd.Network, rows: torch.Tensor, constant: torch.Tensor | None = None) -> Objective:
    return Objective.linear(network, network.output.name, rows, constant)


@given(st.integers(0, 10_000), st.booleans())
@settings(max_examples=4, deadline=None)
def test_the_exact_minimum(seed: int, integer: bool) -> None:
    """Within the gap of enumeration, from below; integer networks have equal neurons and bounds that are zero."""
    network, region, rows = problem(seed, 3, 5, 4, 2, integer=integer)
    exact = exact_minima(network, region, rows)
    trees = over(network, region).search(at_output(network, rows), cutoffs=MINIMUM)
    for tree, value in zip(trees, exact.tolist(), strict=True):
        assert tree.status is TreeStatus.SOLVED
        assert value - 3e-6 * (1 + abs(value)) <= tree.lower <= value + 1e-9
        assert tree.point is not None
        assert bool(region.contains(tree.point).all())
        assert abs(tree.upper - value) <= 3e-6 * (1 + abs(value))


@pytest.mark.parametrize("threads", [1, 2])
def test_claims_are_decided_beside_their_minimum(threads: int) -> None:
    """True by 1e-5: proved; false by 1e-7, or with a minimum of exactly the threshold: refuted by an input or left."""
    network, region, rows = problem(3, 3, 5, 4, 2)
    exact = exact_minima(network, region, rows)
    for shift, proved in ((1e-5, True), (-1e-7, False), (0.0, False)):
        objective = at_output(network, rows, shift - exact)
        trees = over(network, region, threads).search(objective)
        for row, tree in enumerate(trees):
            assert (tree.lower > 0) == proved
            assert (tree.status is TreeStatus.PROVED) == proved
            if tree.status is TreeStatus.REFUTED:
                assert tree.point is not None
                assert float(objective.evaluate(network(tree.point))[0, row]) <= 0
        if shift < 0:
            assert all(tree.status in (TreeStatus.REFUTED, TreeStatus.SOLVED) for tree in trees)


def test_a_minimum_of_exactly_zero_is_not_positive() -> None:
    """``max(x, 0) >= 0`` with equality on half of the region, a neuron whose lower bound is zero behind it."""
    linear = torch.nn.Linear(1, 1, dtype=torch.float64)
    linear.weight.data, linear.bias.data = torch.ones(1, 1).double(), torch.zeros(1).double()
    network = kd.from_torch(torch.nn.Sequential(linear, torch.nn.ReLU(), linear, torch.nn.ReLU(), linear), (1,))
    exact = over(network, kd.ball(torch.zeros(1, 1), 1.0))
    assert float(exact.minimise(at_output(network, torch.ones(1, 1))).lower) == pytest.approx(0.0, abs=2e-6)
    (tree,) = exact.search(at_output(network, torch.ones(1, 1)))
    assert tree.status is TreeStatus.REFUTED
    assert tree.lower <= 0


def test_infeasible_phases_are_closed_and_bound_nothing() -> None:
    """Two neurons that are the same cannot be in two phases; the ray that says so is certified."""
    hidden, last = torch.nn.Linear(1, 2, dtype=torch.float64), torch.nn.Linear(2, 1, dtype=torch.float64)
    hidden.weight.data, hidden.bias.data = torch.ones(2, 1).double(), torch.tensor([0.5, -0.5]).double()
    last.weight.data, last.bias.data = torch.tensor([[1.0, -1.0]]).double(), torch.zeros(1).double()
    network = kd.from_torch(torch.nn.Sequential(hidden, torch.nn.ReLU(), last), (1,))
    abstraction = kd.abstract(network, kd.ball(torch.zeros(1, 1), 1.0), "deeppoly")
    relaxed = relax_network(abstraction)
    session = PhaseSession(relaxed)
    costs, _ = relaxed.costs(at_output(network, torch.ones(1, 1)))
    first = session.root(costs[0], math.inf)
    impossible = np.array([-1, 1], dtype=np.int8)  # x + 0.5 <= 0 <= x - 0.5
    assert session.solve(impossible, costs[0], first.basis, math.inf, math.inf).bound == math.inf
    possible = np.array([1, -1], dtype=np.int8)
    assert session.solve(possible, costs[0], first.basis, math.inf, math.inf).bound == pytest.approx(0.0, abs=1e-9)
    (tree,) = over(network, abstraction.region).search(at_output(network, torch.ones(1, 1)), cutoffs=MINIMUM)
    assert tree.lower == pytest.approx(0.0, abs=2e-6)


def test_bounds_without_a_width() -> None:
    """A region of one point: every neuron's bounds meet, nothing is to branch on, the value is the network's."""
    network = dense(3, 5, 4, 2, seed=1)
    point = torch.full((1, 3), 0.3, dtype=torch.float64)
    exact = over(network, kd.box(point, point)).minimise(at_output(network, torch.eye(2)))
    torch.testing.assert_close(exact.lower, network(point), rtol=0, atol=3e-6)


@pytest.mark.parametrize("network", [conv(), residual()], ids=["conv", "residual"])
def test_other_architectures_lie_between_the_triangles_and_the_samples(network: kd.Network) -> None:
    x = torch.full((1, *network.input.shape), 0.4, dtype=torch.float64)
    region = kd.ball(x, 0.05, clip=(0, 1))
    objective = at_output(network, torch.eye(network.size(network.output.name)))
    relaxed = relax_network(over(network, region))
    trees = [Tree(network, relaxed, objective.rows(i, i + 1)) for i in range(objective.count)]
    for tree in trees:
        tree.advance(PhaseSession(relaxed), 20)
    found = torch.tensor([tree.lower for tree in trees], dtype=torch.float64)
    triangles = kd.TriangleLP().abstract(kd.Query(network, region)).minimise(objective).lower[0]
    sampled = network(region.sample(4000, torch.Generator().manual_seed(0))).amin(0)
    assert (triangles <= found + 1e-7).all()
    assert (found <= sampled).all()


def test_balls_of_norm_one_and_not_two() -> None:
    network, x = dense(3, 6, 5, 2, seed=2), torch.full((1, 3), 0.3)
    objective = at_output(network, torch.eye(2))
    region = kd.ball(x, 0.5, "1", clip=(0, 1))
    found = over(network, region).minimise(objective).lower[0]
    sampled = network(region.sample(20_000, torch.Generator().manual_seed(0))).amin(0)
    assert (found <= sampled).all()
    assert (found >= kd.TriangleLP().abstract(kd.Query(network, region)).minimise(objective).lower[0] - 1e-7).all()
    with pytest.raises(kd.InputError, match="solver: highspy takes linear regions only"):
        over(network, kd.ball(x, 0.5, "2")).minimise(objective)


def test_a_bound_at_the_deadline_is_sound_and_in_time() -> None:
    network, region, rows = problem(1, 6, 40, 40, 40, 4)
    objective, start = at_output(network, rows), time.monotonic()
    exact = over(network, region, threads=2)
    found = exact.minimise(objective, Deadline.after(0.5))
    assert time.monotonic() - start < 15
    assert any("time is up" in note for note in found.notes)
    assert (found.lower >= exact.base.minimise(objective).lower).all()
    assert (found.lower[0] <= (network(region.sample(5000)) @ rows.T).amin(0)).all()
    before = exact.minimise(objective, Deadline.after(0.0))
    torch.testing.assert_close(before.lower, exact.base.minimise(objective).lower)


@given(st.integers(0, 10_000))
@settings(max_examples=3, deadline=None)
def test_neurons_are_tightened_to_their_exact_bounds(seed: int) -> None:
    """With all the time there is: the extrema of the network cut at the layer, or at least a sign."""
    network, region, _ = problem(seed, 3, 6, 5, 2)
    abstraction = kd.abstract(network, region, "deeppoly")
    name = network.pre_activations[1]
    before = abstraction.bounds[name]
    found = tighten(abstraction, name)
    values = network.values(region.sample(20_000, torch.Generator().manual_seed(seed)))[name]
    assert (found.lower <= values.amin(0) + 1e-9).all()
    assert (found.upper >= values.amax(0) - 1e-9).all()
    assert (found.lower >= before.lower).all()
    assert (found.upper <= before.upper).all()
    head = dataclasses.replace(network, nodes=network.ancestors(name))
    eye = torch.eye(5, dtype=torch.float64)
    low, high = exact_minima(head, region, eye), -exact_minima(head, region, -eye)
    open_still = found.unstable[0] & before.unstable[0]
    torch.testing.assert_close(found.lower[0][open_still], low[open_still], rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(found.upper[0][open_still], high[open_still], rtol=1e-5, atol=1e-5)
    assert (((low < -1e-5) & (high > 1e-5)) <= found.unstable[0]).all()


def test_tightening_is_sound_whenever_it_stops() -> None:
    network, region, _ = problem(1, 6, 30, 30, 4)
    abstraction = kd.abstract(network, region, "deeppoly")
    name = network.pre_activations[1]
    values = network.values(region.sample(20_000, torch.Generator().manual_seed(0)))[name]
    widths = []
    for seconds in (0.0, 2.0):
        found = tighten(abstraction, name, torch.arange(10), Deadline.after(seconds), threads=2)
        assert (found.lower <= values.amin(0)).all()
        assert (found.upper >= values.amax(0)).all()
        torch.testing.assert_close(found.lower[0, 10:], abstraction.bounds[name].lower[0, 10:], rtol=0, atol=0)
        widths.append(float(found.width[0, :10].mean()))
    assert widths[1] < widths[0]


def test_a_solver_that_says_anything_moves_no_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    """Multipliers, rays and points that are nonsense or not numbers: no claim that is false is proved."""
    network, region, rows = problem(3, 3, 5, 4, 2)
    exact = exact_minima(network, region, rows)
    generator = np.random.default_rng(0)

    def lied_to(program: Program, cost: np.ndarray, dual: np.ndarray, within: RowColumnBounds | None = None) -> float:
        nonsense = dual * generator.choice([1.0, -1.0, 3.0, 1e200, math.nan, math.inf], size=len(dual))
        return certified_minimum(program, cost, nonsense, within)

    def any_ray(program: Program, ray: np.ndarray, within: RowColumnBounds | None = None) -> bool:
        nonsense = generator.normal(size=len(program.row_lower)) * 10.0 ** generator.integers(-3, 300)
        nonsense[0] = math.nan
        return certified_minimum(program, np.zeros(len(program.lower)), nonsense, within) > 0

    monkeypatch.setattr(phases, "certified_minimum", lied_to)
    monkeypatch.setattr(phases, "proves_infeasible", any_ray)
    relaxed = relax_network(kd.abstract(network, region, "deeppoly"))
    objective = at_output(network, rows, -1e-7 - exact)
    trees = [Tree(network, relaxed, objective.rows(i, i + 1), cutoffs=CLAIM) for i in range(len(rows))]
    for tree in trees:
        tree.advance(PhaseSession(relaxed), 40)
        assert not tree.lower > 0
    advance_all(trees, lambda position: 0.0, Deadline.after(1.0))
    assert not any(tree.status is TreeStatus.PROVED for tree in trees)


def test_what_does_not_fit_is_refused() -> None:
    network = dense(3, 4, 4, 2)
    with pytest.raises(kd.InputError, match="threads: 0"):
        over(network, kd.ball(torch.zeros(1, 3), 0.1), threads=0)
    batch = kd.abstract(network, kd.ball(torch.zeros(2, 3), 1.0), "deeppoly")
    with pytest.raises(kd.InputError, match="one region at a time"):
        tighten(batch, network.pre_activations[1])
