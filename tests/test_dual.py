"""The vertex dual: sound whatever its multipliers are, concave in them, and worth as much as the linear program."""

from __future__ import annotations

import math
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import conv, dense, residual
from torch import Tensor

import kreludomain as kd
from kreludomain.bounding.dual import (
    PRESETS,
    CombinedMultipliers,
    ComputeOptions,
    DualAbstraction,
    DualAscent,
    DualProblem,
    Multipliers,
    bound,
    grouped_relu,
    maximise_dual,
)
from kreludomain.bounding.lp import LPAbstraction
from kreludomain.domain import Bounds
from kreludomain.groups import ByArea, JointRelaxation, Octahedra, by_size, relax_jointly
from kreludomain.property import Objective

NETWORKS = {
    "dense": dense(4, 8, 7, 6, 3, seed=1),
    "integer weights": dense(4, 6, 6, 6, 3, seed=2, integer=True),
    "conv": conv(),
    "residual": residual(),
}
networks = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def around_middle(network: kd.Network, epsilon: float = 0.25, **options: Any) -> kd.Region:
    return kd.ball(torch.full((1, *network.input.shape), 0.4, dtype=torch.float64), epsilon, **options)


def lp(network: kd.Network, region: kd.Region, **options: Any) -> LPAbstraction:
    return kd.KReluLP(**options).abstract(kd.Query(network, region))


def dual_of(program: LPAbstraction, steps: int, compute: ComputeOptions = ComputeOptions("float64")) -> DualAbstraction:
    """The dual over the very groups and octahedra of a linear program."""
    return DualAbstraction(
        program.network,
        program.region,
        program.bounds,
        base=program.base,
        joint=program.joint,
        ascent=DualAscent(steps),
        compute=compute,
    )


def outputs(network: kd.Network, count: int = 4, seed: int = 0) -> Objective:
    rows = torch.randn(count, network.size(network.output.name), generator=torch.Generator().manual_seed(seed))
    return Objective.linear(network, network.output.name, rows.double())


def random_multipliers(problem: DualProblem, count: int, seed: int, size: float = 1.0) -> Multipliers:
    generator = torch.Generator().manual_seed(seed)
    allocation, slope = size * torch.randn(2, problem.slots, count, generator=generator, dtype=torch.float64)
    constraint = size * torch.rand(problem.constraint_count, count, generator=generator, dtype=torch.float64)
    return Multipliers(allocation, slope, constraint)


def with_output_constraints(problem: DualProblem, output_constraints: bool) -> DualProblem:
    """Where two other outputs are not positive, or the problem as it is."""
    pulled = outputs(problem.network, 2, seed=9).pulled_back(problem.network)
    return problem.constrained_by(pulled) if output_constraints else problem


class Mixed(kd.Grouping):
    """Groups of one to four neurons that overlap at random."""

    def groups(self, abstraction: kd.Abstraction, node: str) -> list[Tensor]:
        unstable = abstraction.bounds[node].unstable[0].flatten().nonzero()[:, 0]
        generator = torch.Generator().manual_seed(len(unstable))
        sizes = [k for k in (1, 2, 2, 3, 3, 4) if k <= len(unstable)]
        return by_size(unstable[torch.randperm(len(unstable), generator=generator)[:k]] for k in sizes)


# ---- worth ----------------------------------------------------------------------------------------------------------


def check_against(program: LPAbstraction, steps: int) -> None:
    """The dual is never above the program, and within 0.5 % of the gap to it (or 0.1 % of what the objective spans)."""
    objective = outputs(program.network)
    best, start = program.minimise(objective).lower, program.base.minimise(objective).lower
    dual = dual_of(program, steps).minimise(objective).lower
    span = program.base.extrema(objective).width
    assert (dual <= best + 1e-6 * (1 + best.abs())).all()
    assert (best - dual <= torch.maximum(0.005 * (best - start), 0.001 * span)).all()


@pytest.mark.parametrize(
    ("name", "steps", "k"),
    [
        ("integer weights", 3000, 2),
        *((name, steps, k) for name, steps in (("dense", 300), ("conv", 1000), ("residual", 600)) for k in (1, 2, 3)),
    ],
)
def test_as_good_as_the_linear_program(name: str, steps: int, k: int) -> None:
    check_against(lp(NETWORKS[name], around_middle(NETWORKS[name]), k=k, partition_size=6, formulation="vertex"), steps)


def test_mixed_sizes_up_to_four() -> None:
    program = lp(NETWORKS["dense"], around_middle(NETWORKS["dense"], 0.4), grouping=Mixed())
    assert {j.groups.shape[1] for joint in program.joint.values() for j in joint} == {1, 2, 3, 4}
    check_against(program, 3000)


@pytest.mark.parametrize("norm", ["1", "2"])
def test_balls(norm: str) -> None:
    network = NETWORKS["dense"]
    region = around_middle(network, 0.5, norm=norm, clip=(0.1, 0.9))
    objective = outputs(network)
    dual, deeppoly = (kd.abstract(network, region, m).minimise(objective).lower for m in ("krelu", "deeppoly"))
    sampled = objective.evaluate(network(region.sample(20_000, torch.Generator().manual_seed(0)))).amin(0)
    assert (deeppoly < dual).all()
    assert (dual <= sampled + 1e-9).all()


def test_more_steps_are_worth_more() -> None:
    network = dense(6, 14, 14, 14, 2, seed=3)
    program = lp(network, around_middle(network, 0.3), k=3, partition_size=10)
    objective = outputs(network)
    bounds = [dual_of(program, steps).minimise(objective).lower for steps in (0, 10, 40, 160)]
    for worse, better in pairwise(bounds):
        assert (better > worse).all()


# ---- soundness ------------------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.sampled_from([0.01, 1.0, 100.0]), st.sampled_from(sorted(NETWORKS)))
@settings(max_examples=40, deadline=None)
def test_any_multipliers_certify_a_sound_bound(seed: int, size: float, name: str) -> None:
    network, objective = NETWORKS[name], outputs(NETWORKS[name], seed=seed)
    problem = dual_of(lp(network, around_middle(network), k=3, partition_size=5), 0).problem(network.output.name)
    found = problem.certified(objective, random_multipliers(problem, objective.count, seed, size))
    sampled = objective.evaluate(network(problem.region.sample(2000, torch.Generator().manual_seed(seed))))
    assert (found <= sampled.amin(0)).all()


@pytest.mark.parametrize(
    "network",
    [dense(4, 12, 12, 12, 3, seed=7, integer=True), dense(2, 10, 10, 10, 3, seed=8), dense(4, 10, 10, 10, 2, seed=9)],
    ids=["integer weights", "two inputs", "four inputs"],
)
def test_a_million_points(network: kd.Network) -> None:
    """Groups are degenerate here: parallel and equal neurons, more neurons than inputs, bounds that are exactly
    zero."""
    region = kd.ball(torch.zeros(1, *network.input.shape), 1.0)
    abstraction = kd.abstract(network, region, "krelu", preset="tight", partition_size=8)
    objective = outputs(network, 6)
    lower = abstraction.minimise(objective).lower[0]
    generator = torch.Generator().manual_seed(0)
    for _ in range(10):
        points = 2 * torch.rand(100_000, *network.input.shape, generator=generator, dtype=torch.float64) - 1
        points[::3] = points[::3].sign() * (torch.rand(len(points[::3]), 1, generator=generator) < 0.9)
        values = network.values(points)
        assert (objective.evaluate(values[network.output.name]) >= lower - 1e-9).all()
        for node in network.pre_activations:
            assert (values[node] >= abstraction.bounds[node].lower - 1e-9).all()
            assert (values[node] <= abstraction.bounds[node].upper + 1e-9).all()


def test_a_claim_that_just_fails_is_not_proved() -> None:
    """A margin whose minimum is zero, and one a hair below."""
    network, region = dense(3, 6, 5, 2, seed=5), kd.ball(torch.zeros(1, 3), 0.5)
    values = network(region.sample(50_000, torch.Generator().manual_seed(1)))
    row = torch.tensor([[1.0, -1.0]], dtype=torch.float64)
    smallest = float((values @ row.T).min())
    for shift in (smallest, smallest + 1e-9):
        assert (
            kd.certify(network, region, kd.claim(row, torch.tensor([-shift], dtype=torch.float64)), "krelu").verdict
            != "verified"
        )


def seq(*layers: tuple[Tensor, Tensor]) -> kd.Network:
    """A network of these weights and biases with ReLU between them."""
    modules: list[torch.nn.Module] = []
    for weight, bias in layers:
        linear = torch.nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        linear.weight.data, linear.bias.data = weight, bias
        modules += [linear, torch.nn.ReLU()]
    return kd.from_torch(torch.nn.Sequential(*modules[:-1]), (layers[0][0].shape[1],))


@pytest.mark.parametrize(
    ("dtype", "tiny"),
    [*(("float32", tiny) for tiny in (1e-20, 1e-38, 1e-42, 1e-46, 1e-320)), ("float64", 1e-20), ("float64", 1e-320)],
)
@pytest.mark.parametrize("dead", [False, True])
def test_what_float32_cannot_hold_proves_nothing(dtype: str, tiny: float, dead: bool) -> None:
    """Two neurons that are equal but for a denormal weight, or one whose weights all are: a direction of nothing."""
    generator, n = torch.Generator().manual_seed(3), 6
    weight = torch.randn(n, n, generator=generator, dtype=torch.float64)
    bias = torch.randn(n, generator=generator, dtype=torch.float64) / 20
    weight[:, 0] = 0
    weight[1], bias[1] = weight[0], bias[0]
    weight[1, 0] = tiny
    if dead:
        weight[1], bias[1] = tiny, 0.0
    first = torch.randn(n, 2, generator=generator, dtype=torch.float64)
    last = torch.randn(1, n, generator=generator, dtype=torch.float64)
    network = seq((first, bias), (weight, bias), (last, torch.zeros(1).double()))
    region = kd.ball(torch.zeros(1, 2), 0.5)
    smallest = float(network(region.sample(20_000, generator)).min())
    claim = kd.claim(torch.ones(1, 1), torch.tensor([-smallest - 1e-3 * abs(smallest)], dtype=torch.float64))
    row = torch.ones(1, 1, dtype=torch.float64)
    deeppoly = float(kd.abstract(network, region, "deeppoly").minimise(outputs_of(network, row)).lower)
    for preset, tight in zip(PRESETS, (True, False, True), strict=True):
        found = kd.certify(network, region, claim, "krelu", preset=preset, dtype=dtype, attack=False, tight=tight)
        assert found.verdict == "unknown"
        lower = float(
            kd.abstract(network, region, "krelu", preset=preset, dtype=dtype).minimise(outputs_of(network, row)).lower
        )
        assert deeppoly - 1e-9 <= lower <= smallest


@pytest.mark.parametrize("scale", [1e-30, 1e30, 1e38])
def test_weights_at_the_ends_of_float32(scale: float) -> None:
    """Sums overflow or vanish in float32 though the network's own values are of usual size."""
    generator = torch.Generator().manual_seed(1)
    a, b, c = (torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in ((6, 2), (6, 6), (1, 6)))
    bias = torch.randn(6, generator=generator, dtype=torch.float64) / 20
    network = seq((a, bias), (b * scale, bias * scale), (c / scale, torch.zeros(1).double()))
    region, row = kd.ball(torch.zeros(1, 2), 0.5), torch.ones(1, 1, dtype=torch.float64)
    smallest = float(network(region.sample(20_000, generator)).min())
    deeppoly = float(kd.abstract(network, region, "deeppoly").minimise(outputs_of(network, row)).lower)
    for preset in PRESETS:
        for dtype in ("float32", "float64"):
            made = kd.abstract(network, region, "krelu", preset=preset, dtype=dtype)
            lower = float(made.minimise(outputs_of(network, row)).lower)
            assert deeppoly - 1e-9 <= lower <= smallest


def test_multipliers_that_are_not_finite_prove_nothing() -> None:
    network, objective = NETWORKS["dense"], outputs(NETWORKS["dense"])
    problem = dual_of(lp(network, around_middle(network), k=3, partition_size=5), 0).problem(network.output.name)
    for value in (math.nan, math.inf, -math.inf, 1e308):
        multipliers = random_multipliers(problem, objective.count, 0)
        multipliers.slope[:, 1] = value
        found = problem.certified(objective, multipliers)
        assert found[1] == -math.inf
        assert found[[0, 2, 3]].isfinite().all()


def test_a_float32_network_is_certified_in_float64() -> None:
    network = NETWORKS["dense"].to(dtype=torch.float32)
    point = kd.ball(torch.full((1, 4), 0.4, dtype=torch.float64), 0.0)
    exact = network.to(dtype=torch.float64)(point.center)[0]
    for method in kd.METHODS:
        found = kd.certify(network, point, kd.claim(torch.eye(3)), method, attack=False, tight=True).lower_bounds
        assert found.dtype == torch.float64
        assert (found <= exact).all()
    with pytest.raises(kd.InputError, match="float64"):
        kd.DeepPoly().abstract(kd.Query(network, point))


# ---- the function that is maximised ----------------------------------------------------------------------------------


@networks
def test_any_multipliers_certify_a_sound_bound_under_output_constraints(network: kd.Network) -> None:
    """Multipliers of the constraint below zero too, which would turn it around."""
    output_constraints = outputs(network, 1, seed=9).pulled_back(network)
    problem = dual_of(lp(network, around_middle(network), k=2, partition_size=6), 0).problem(output_constraints.node)
    values = network.values(problem.region.sample(20_000, torch.Generator().manual_seed(0)))[output_constraints.node]
    margins = output_constraints.evaluate(values)[:, 0]
    output_constraints = replace(output_constraints, constant=output_constraints.constant - margins.quantile(0.3))
    lowest = float(output_constraints.evaluate(values).min())
    for size in (0.0, 0.1):
        plain = random_multipliers(problem, 1, 0, size)
        for value in (-1e3, -1.0, 0.0, 0.1, 1.0, 1e3):
            weighted = replace(plain, constraint=torch.full((1, 1), value, dtype=torch.float64))
            assert float(problem.constrained_by(output_constraints).certified(output_constraints, weighted)) <= lowest


@given(st.integers(0, 10_000), st.sampled_from(sorted(NETWORKS)), st.floats(0.1, 0.9), st.booleans())
@settings(max_examples=30, deadline=None)
def test_concave_along_any_segment(seed: int, name: str, part: float, output_constraints: bool) -> None:
    network = NETWORKS[name]
    objective = outputs(network, seed=seed).pulled_back(network)
    problem = dual_of(lp(network, around_middle(network), k=2, partition_size=6), 0).problem(objective.node)
    problem = with_output_constraints(problem, output_constraints)
    a, b = (random_multipliers(problem, objective.count, seed + i) for i in (0, 1))
    pairs = ((a.allocation, b.allocation), (a.slope, b.slope), (a.constraint, b.constraint))
    between = Multipliers(*(part * x + (1 - part) * y for x, y in pairs))
    ends = part * problem.certified(objective, a) + (1 - part) * problem.certified(objective, b)
    assert (problem.certified(objective, between) >= ends - 1e-9 * (1 + ends.abs())).all()


@pytest.mark.parametrize("output_constraints", [False, True])
@networks
def test_the_gradient_is_a_supergradient(network: kd.Network, output_constraints: bool) -> None:
    """``f(y) <= f(x) + g . (y - x)`` for all y, as the temperature goes to zero."""
    objective = outputs(network).pulled_back(network)
    problem = dual_of(lp(network, around_middle(network), k=3, partition_size=6), 0).problem(objective.node)
    problem = with_output_constraints(problem, output_constraints)
    reference = problem.reference(objective, problem.constraint_scale(objective)).slope
    cold = torch.full((objective.count,), 1e-12, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    points = torch.randn(6, 2, *reference.shape, generator=generator, dtype=torch.float64)
    # The reference belongs to one multiplier of the constraints: slopes and offsets are compared at that one.
    constraints = torch.rand(6, problem.constraint_count, objective.count, generator=generator, dtype=torch.float64)
    proofs = [problem.multipliers(objective, *x, w, 0 * reference) for x, w in zip(points, constraints, strict=True)]
    plain = [(torch.stack([p.allocation, p.slope]), p.constraint) for p in proofs]
    found = [problem.value_and_gradients(objective, x, w, 0 * reference, cold) for x, w in plain]
    for (x, w), (value, by_variable, by_constraint) in zip(plain, found, strict=True):
        for (y, v), (other, _, _) in zip(plain, found, strict=True):
            rise = (by_variable * (y - x)).sum((0, 1)) + (by_constraint * (v - w)).sum(0)
            assert (other <= value + rise + 1e-7 * (1 + value.abs())).all()


@pytest.mark.parametrize("output_constraints", [False, True])
def test_multipliers_mean_the_same_without_reference(output_constraints: bool) -> None:
    network = NETWORKS["dense"]
    objective = outputs(network).pulled_back(network)
    problem = dual_of(lp(network, around_middle(network), k=3, partition_size=6), 0).problem(objective.node)
    problem = with_output_constraints(problem, output_constraints)
    constraint = problem.constraint_scale(objective)
    reference = problem.reference(objective, constraint).slope
    variables = torch.randn(2, *reference.shape, dtype=torch.float64)
    ones = torch.ones(objective.count, dtype=torch.float64)
    value, _, _ = problem.value_and_gradients(objective, variables, constraint, reference, ones)
    found = problem.multipliers(objective, variables[0], variables[1], constraint, reference)
    torch.testing.assert_close(problem.certified(objective, found), value)
    torch.testing.assert_close(problem.slope_offsets(objective, found, reference), variables[1])


# ---- batches --------------------------------------------------------------------------------------------------------


@networks
def test_batched_and_one_by_one(network: kd.Network) -> None:
    dual = dual_of(lp(network, around_middle(network), k=3, partition_size=6), 40)
    objective = outputs(network, 5)
    together = dual.minimise(objective).lower
    alone = torch.cat([dual.minimise(objective.rows(i, i + 1)).lower for i in range(5)], dim=1)
    torch.testing.assert_close(together, alone, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("count", [2, 15, 16, 33])
def test_a_certificate_is_worth_the_same_among_many(count: int) -> None:
    """However many objectives there are decides how they lie in memory, and nothing else."""
    network = NETWORKS["dense"]
    problem = dual_of(lp(network, around_middle(network), k=3, partition_size=6), 0).problem(network.output.name)
    objective, multipliers = outputs(network, count), random_multipliers(problem, count, seed=4, size=0.3)
    together = problem.certified(objective, multipliers)
    for row in range(count):
        alone = problem.certified(objective.rows(row, row + 1), multipliers.rows(torch.tensor([row])))
        torch.testing.assert_close(together[row : row + 1], alone, rtol=1e-12, atol=1e-12)


def test_no_vertex_is_lost_where_groups_with_few_stand_apart() -> None:
    generator, count, most = torch.Generator().manual_seed(0), 90, 11
    groups = torch.arange(2 * count).view(count, 2)
    vertices = torch.randn(count, most, 2, generator=generator, dtype=torch.float64)
    length = torch.randint(1, most + 1, (count,), generator=generator)
    vertices = torch.where((torch.arange(most) < length[:, None])[..., None], vertices, vertices[:, :1])
    high = vertices.abs().amax((1, 2))[:, None].expand(count, 2).reshape(1, -1) + 1
    unit = high.flatten()
    limits = torch.zeros(count, 4, dtype=torch.float64)
    relaxed = grouped_relu(Bounds(-high, high), [JointRelaxation(Octahedra(groups, limits, limits), vertices)])
    assert len(relaxed.blocks) == 2
    assert relaxed.blocks[0].table.shape[2] < most
    seen = 0
    for block in relaxed.blocks:
        for group, table in zip(block.groups, block.table, strict=True):
            first, scale = int(group[0]) // 2, unit[group]
            expected = torch.cat([vertices[first].relu() / scale, -vertices[first] / scale], dim=1)
            assert {tuple(v) for v in table.T.tolist()} == {tuple(v) for v in expected.tolist()}
            seen += 1
    assert seen == count


def test_little_memory_changes_nothing() -> None:
    network = NETWORKS["dense"]
    program, objective = lp(network, around_middle(network), k=3, partition_size=6), outputs(network, 1000)
    small, large = (ComputeOptions("float64", memory_mb=mb) for mb in (1, 1000))
    problem = dual_of(program, 0).problem(network.output.name)
    assert small.rows(problem) < 1000 < large.rows(problem)
    few, many = (dual_of(program, 10, compute).minimise(objective).lower for compute in (small, large))
    torch.testing.assert_close(few, many, rtol=1e-6, atol=1e-6)


def test_float32_steps_are_as_good() -> None:
    network = NETWORKS["dense"]
    program, objective = lp(network, around_middle(network), k=3, partition_size=6), outputs(network)
    single, double = (
        dual_of(program, 200, ComputeOptions(dtype)).minimise(objective).lower for dtype in ("float32", "float64")
    )
    assert single.dtype == torch.float64
    torch.testing.assert_close(single, double, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("name", ["conv", "residual"])
def test_groups_out_of_reach_change_nothing_that_matters(name: str) -> None:
    """Multipliers of the groups that an objective reaches prove the same in the whole network, up to rounding."""
    network = NETWORKS[name]
    node = network.pre_activations[1]
    program = lp(network, around_middle(network), k=3, partition_size=6)
    objective = Objective.neurons(network, node, torch.arange(3)).pulled_back(network)
    problem = dual_of(program, 0).problem(objective.node)
    local, kept = problem.restricted(objective)
    lower, found = bound(problem, objective, DualAscent(30), ComputeOptions("float64"))
    assert local.slots <= problem.slots
    assert (problem.certified(objective, found) >= lower - 1e-6).all()
    outside = torch.ones(problem.slots, dtype=torch.bool).index_fill_(0, kept, False)
    assert not found.slope[outside].any()


def test_objectives_that_meet_the_stop_rule_leave() -> None:
    network = dense(6, 14, 14, 14, 2, seed=3)
    objective = outputs(network).pulled_back(network)
    problem = dual_of(lp(network, around_middle(network, 0.3), k=3, partition_size=10), 0).problem(objective.node)
    easy = Objective(objective.node, objective.coefficients, objective.constant + torch.tensor([[100.0, 0, 0, 0]]))
    lower, _ = maximise_dual(problem, problem, easy, DualAscent(100), lambda bounds: bounds > 0)
    full, _ = maximise_dual(problem, problem, easy, DualAscent(100))
    assert 0 < lower[0] < full[0]
    torch.testing.assert_close(lower[1:], full[1:])


# ---- octahedra ------------------------------------------------------------------------------------------------------


def test_sums_of_multipliers() -> None:
    """Their bound of ``x_a - x_b`` is at least the sum of the neurons' bounds, and never above what occurs."""
    network = NETWORKS["dense"]
    node, region = network.pre_activations[2], around_middle(network, 0.4)
    program = lp(network, region, k=3, partition_size=6)
    dual = dual_of(program, 60)
    unstable = dual.bounds[node].unstable[0].nonzero()[:, 0]
    bounds, multipliers = dual.neurons(node, unstable)
    columns = torch.full((network.size(node),), -1)
    columns[unstable] = torch.arange(len(unstable))
    pulled = Objective.neurons(network, node, unstable).pulled_back(network)
    combined = CombinedMultipliers(
        network,
        region.fit(network),
        dual.bounds,
        base=program.base,
        node=node,
        problem=dual.problem(pulled.node),
        multipliers=multipliers,
        columns=columns,
        compute=ComputeOptions(),
    )
    a, b = unstable[:2]
    row = torch.zeros(1, network.size(node), dtype=torch.float64)
    row[0, a], row[0, b] = 1.0, -1.0
    found = combined.extrema(Objective.linear(network, node, row))
    values = network.values(region.sample(20_000, torch.Generator().manual_seed(0)))[node] @ row.T
    assert float(found.lower) >= float(bounds.lower[0, 0] - bounds.upper[0, 1]) - 1e-6
    assert float(found.upper) <= float(bounds.upper[0, 0] - bounds.lower[0, 1]) + 1e-6
    assert float(found.lower) <= values.min() <= values.max() <= float(found.upper)


# ---- the method -----------------------------------------------------------------------------------------------------


@networks
def test_presets_are_ordered(network: kd.Network) -> None:
    """Every preset ends; what takes longer is tighter; none is looser than DeepPoly, none passes what occurs."""
    region, objective = around_middle(network), outputs(network)
    sampled = objective.evaluate(network(region.sample(20_000, torch.Generator().manual_seed(0)))).amin(0)
    worse = kd.abstract(network, region, "deeppoly").minimise(objective).lower[0]
    for preset in PRESETS:
        better = kd.abstract(network, region, "krelu", preset=preset).minimise(objective).lower[0]
        assert (better >= worse - 0.02 * (sampled - worse)).all()
        assert (better <= sampled + 1e-9).all()
        worse = better


def test_proving_stops_when_it_is_proved() -> None:
    network, region = dense(6, 14, 14, 14, 2, seed=3), around_middle(dense(6, 14, 14, 14, 2, seed=3), 0.3)
    row = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    tight = float(kd.abstract(network, region, "krelu", preset="tight").minimise(outputs_of(network, row)).lower)
    deeppoly = float(kd.abstract(network, region, "deeppoly").minimise(outputs_of(network, row)).lower)
    for share in (0.5, 0.9):
        shift = deeppoly + share * (tight - deeppoly)
        found = kd.certify(
            network, region, kd.claim(row, torch.tensor([-shift], dtype=torch.float64)), "krelu", preset="tight"
        )
        assert found.verdict == "verified"
        assert 0 < float(found.lower_bounds) <= tight - shift + 1e-6


def outputs_of(network: kd.Network, rows: Tensor) -> Objective:
    return Objective.linear(network, network.output.name, rows)


def test_stages_keep_what_they_do_not_change() -> None:
    """The first layer's bounds are exact from the start, so its relaxations are made once."""
    network = NETWORKS["dense"]
    region, method = around_middle(network, 0.4), kd.KRelu(gain_factor=math.inf)
    claim = kd.claim(torch.ones(1, network.size(network.output.name)), torch.tensor([-1e6]))  # never proved
    query = kd.Query(network, region, claim)
    quick = method.next_stage(method.first_stage(query), query)
    assert quick is not None
    thorough = method.next_stage(quick, query)
    assert thorough is not None
    assert method.next_stage(thorough, query) is None
    first, *others = network.pre_activations
    assert thorough.dual is not None
    assert quick.dual is not None
    assert thorough.dual.joint[first] is quick.dual.joint[first]
    for node in others:
        assert thorough.dual.joint[node] is not quick.dual.joint[node]
        assert (thorough.dual.bounds[node].width <= quick.dual.bounds[node].width + 1e-9).all()


def test_the_deadline_is_kept() -> None:
    """What is there by then counts: a bound, never worse than DeepPoly's."""
    network = dense(20, 60, 60, 60, 60, 5, seed=4)
    region, row = kd.ball(torch.zeros(1, 20), 0.2), torch.eye(5).double()[:1]
    start = time.monotonic()
    found = kd.certify(network, region, kd.claim(row), "krelu", preset="tight", timeout_s=1.0, attack=False)
    assert time.monotonic() - start < 15
    assert found.verdict == "timeout"
    deeppoly = kd.abstract(network, region, "deeppoly").minimise(outputs_of(network, row)).lower
    assert math.isfinite(float(found.lower_bounds))
    assert float(found.lower_bounds) >= float(deeppoly) - 1e-9


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"preset": "slow"}, "preset: 'slow' is not one of fast, balanced, tight"),
        ({"steps": -1}, "steps: -1 is not a number from 0 up"),
        ({"dtype": "float16"}, "dtype: 'float16' is not one of float32, float64"),
        ({"device": "cuda:99"}, "device: 'cuda:99' cannot be used: "),
        ({"device": "nowhere"}, "device: 'nowhere' cannot be used: "),
        ({"memory_mb": 0}, "memory_mb: 0 is not a number from 1 up"),
        ({"refine": "some"}, "refine: 'some' is not one of output, all"),
        ({"grouping": "luck"}, "grouping: 'luck' is not one of "),
        ({"k": 5, "partition_size": 3}, "grouping: k = 5, partition_size = 3"),
    ],
)
def test_options_that_make_no_sense(options: dict[str, Any], said: str) -> None:
    with pytest.raises(kd.InputError) as caught:
        kd.KRelu(**options)
    assert str(caught.value).startswith(said)


def test_a_grouping_of_ones_own() -> None:
    network, region = NETWORKS["dense"], around_middle(NETWORKS["dense"], 0.4)
    seen = []

    class Pairs(kd.Grouping):
        def groups(self, abstraction: kd.Abstraction, node: str) -> list[Tensor]:
            seen.append(node)
            return list(ByArea(2, 6).groups(abstraction, node))

    kd.abstract(network, region, kd.KRelu(grouping=Pairs()))
    assert set(seen) == set(network.pre_activations)


def test_stable_and_empty_layers() -> None:
    """Where nothing is unstable there is nothing to choose, and the bound is exact."""
    network = dense(3, 5, 4, 2, seed=6)
    region = kd.ball(torch.full((1, 3), 0.3), 1e-6)
    objective = outputs(network)
    lower = kd.abstract(network, region, "krelu").minimise(objective).lower[0]
    corners = objective.evaluate(network(region.sample(2000, torch.Generator().manual_seed(0)))).amin(0)
    torch.testing.assert_close(lower, corners, rtol=1e-4, atol=1e-5)
    assert relax_jointly(kd.abstract(network, region), network.pre_activations[0], ByArea()) == ()
