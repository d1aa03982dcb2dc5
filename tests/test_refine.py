"""Linear programs over joint relaxations: the ladder of methods, certified values, solvers and their failures."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pytest
import torch
from exact import exact_minima
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import conv, dense, residual
from torch import Tensor

import kreludomain as kd
from kreludomain.domain import Abstraction
from kreludomain.programs import LPSolution, Program, SolverSession, certified_minimum, relax_network
from kreludomain.property import Objective


@dataclass(frozen=True)
class Nested(kd.Grouping):
    """All groups of one neuron, then also all pairs, then also all triples of the first ``most`` unstable neurons."""

    most: int = 6

    def groups(self, abstraction: Abstraction, node: str) -> Sequence[Tensor]:
        unstable = abstraction.bounds[node].unstable[0].flatten().nonzero()[:, 0].tolist()[: self.most]
        sizes = range(1, min(self.k, len(unstable)) + 1)
        return [torch.tensor(list(itertools.combinations(unstable, size))) for size in sizes]


def minima(
    method: kd.Method, network: kd.Network, region: kd.Region, rows: Tensor, known: kd.PriorBounds | None = None
) -> Tensor:
    abstraction = method.abstract(kd.Query(network, region, prior_bounds=known or {}))
    return abstraction.minimise(Objective.linear(network, network.output.name, rows)).lower[0]


def problem(seed: int, *widths: int, radius: float = 0.7) -> tuple[kd.Network, kd.Region, Tensor]:
    network = dense(*widths, seed=seed)
    region = kd.ball(torch.zeros(1, widths[0]), radius)
    rows = torch.cat([torch.eye(widths[-1]), -torch.eye(widths[-1])]).double()
    return network, region, rows


LADDER: list[kd.Method] = [
    kd.Interval(),
    kd.DeepPoly(),
    kd.TriangleLP(),
    *(kd.KReluLP(k=k, grouping=Nested(k)) for k in (2, 3)),
]


@pytest.mark.parametrize("seed", range(4))
def test_ladder_up_to_the_exact_minimum(seed: int) -> None:
    """interval <= DeepPoly <= LP(1) <= LP(2) <= LP(3) <= exact, with nested groups."""
    network, region, rows = problem(seed, 3, 5, 4, 2)
    values = [minima(method, network, region, rows) for method in LADDER]
    values.append(exact_minima(network, region, rows))
    for loose, tight in itertools.pairwise(values):
        assert (loose <= tight + 1e-7).all()
    assert (values[-2] > values[2] + 1e-4).any(), "the joint relaxation gains something here"


@given(st.integers(0, 10_000))
@settings(max_examples=4, deadline=None)
def test_refining_inner_bounds(seed: int) -> None:
    """LP(1) <= LP(1), all layers <= LP(3), all layers <= exact.

    LP(3) over unrefined bounds is not on this ladder: a neuron that became stable leaves its groups, and what they said
    about the others goes with it.
    """
    network, region, rows = problem(seed, 3, 5, 4, 2)
    methods = (kd.TriangleLP(), kd.TriangleLP(refine="all"), kd.KReluLP(grouping=Nested(3), refine="all"))
    values = [minima(method, network, region, rows) for method in methods]
    for loose, tight in itertools.pairwise([*values, exact_minima(network, region, rows)]):
        assert (loose <= tight + 1e-7).all()
    refined = methods[-1].abstract(kd.Query(network, region))
    values = network.values(region.sample(2000, torch.Generator().manual_seed(seed)))
    for name, bounds in refined.bounds.items():
        assert (values[name] >= bounds.lower - 1e-9).all()
        assert (values[name] <= bounds.upper + 1e-9).all()


@pytest.mark.parametrize("k", [1, 2, 3])
def test_both_formulations_agree(k: int) -> None:
    network, region, rows = problem(7, 4, 8, 6, 2)
    vertex = minima(kd.KReluLP(k=k, partition_size=8), network, region, rows)
    hull = minima(kd.KReluLP(k=k, partition_size=8, formulation="hull"), network, region, rows)
    torch.testing.assert_close(vertex, hull, rtol=1e-5, atol=1e-5)


def test_groups_of_one_are_triangles() -> None:
    network, region, rows = problem(3, 4, 8, 6, 2)
    one = minima(kd.KReluLP(k=1, partition_size=8, overlap=0), network, region, rows)
    torch.testing.assert_close(one, minima(kd.TriangleLP(), network, region, rows), rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("solver", ["auto", "highspy", "highs", "HIGHS", "clarabel", "scipy"])
def test_every_solver_gives_the_same(solver: str) -> None:
    network, region, rows = problem(5, 4, 8, 6, 2)
    reference = minima(kd.KReluLP(k=2, partition_size=8), network, region, rows)
    got = minima(kd.KReluLP(k=2, partition_size=8, solver=solver), network, region, rows)
    torch.testing.assert_close(got, reference, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("network", [conv(), residual()], ids=["conv", "residual"])
def test_other_architectures(network: kd.Network) -> None:
    x = torch.full((1, *network.input.shape), 0.4, dtype=torch.float64)
    region = kd.ball(x, 0.1, clip=(0, 1))
    rows = torch.eye(network.size(network.output.name), dtype=torch.float64)
    values = [
        minima(m, network, region, rows) for m in (kd.DeepPoly(), kd.TriangleLP(), kd.KReluLP(k=2, partition_size=6))
    ]
    sampled = network(region.sample(4000, torch.Generator().manual_seed(0))).amin(0)
    for loose, tight in itertools.pairwise([*values, sampled]):
        assert (loose <= tight + 1e-7).all()


@pytest.mark.parametrize("norm", ["1", "2"])
def test_balls(norm: str) -> None:
    """The LP over an l_1 or l_2 ball lies between DeepPoly and the samples, and above the LP over the bounding box."""
    network = dense(5, 10, 8, 3, seed=2)
    x = torch.full((1, 5), 0.3)
    region, around = kd.ball(x, 0.5, norm, clip=(0, 1)), kd.ball(x, 0.5, "inf", clip=(0, 1))
    rows = torch.eye(3).double()
    deeppoly, lp, joint = (minima(m, network, region, rows) for m in (kd.DeepPoly(), kd.TriangleLP(), kd.KReluLP(k=2)))
    sampled = network(region.sample(5000, torch.Generator().manual_seed(0))).amin(0)
    assert (deeppoly <= lp + 1e-7).all()
    assert (lp <= joint + 1e-6).all()
    assert (joint <= sampled + 1e-7).all()
    assert (lp >= minima(kd.TriangleLP(), network, around, rows) - 1e-6).all()
    torch.testing.assert_close(
        minima(kd.TriangleLP(solver="clarabel"), network, region, rows), lp, rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("solver", ["highspy", "highs", "scipy", "osqp"])
def test_solvers_refuse_what_they_cannot_take(solver: str) -> None:
    network, region = dense(5, 6, 3), kd.ball(torch.zeros(1, 5), 0.5, "2")
    with pytest.raises(kd.InputError, match=f"^solver: {solver}.*takes linear regions only.*use clarabel"):
        minima(kd.TriangleLP(solver=solver), network, region, torch.eye(3).double())


# ---- certified values -----------------------------------------------------------------------------------------------


@given(st.integers(0, 10_000), st.floats(0, 10))
@settings(max_examples=30, deadline=None)
def test_any_multipliers_certify_a_sound_value(seed: int, size: float) -> None:
    """Weak duality: random multipliers, even of the wrong sign or infinite, never pass the sampled minimum."""
    network, region, rows = problem(3, 3, 6, 4, 2)
    abstraction = kd.KReluLP(k=2, partition_size=6).abstract(kd.Query(network, region))
    relaxed = relax_network(abstraction.base, abstraction.joint)
    costs, constants = relaxed.costs(Objective.linear(network, network.output.name, rows))
    generator = np.random.default_rng(seed)
    dual = generator.normal(size=relaxed.program.rows.shape[0]) * size
    dual[generator.integers(len(dual))] = np.nan
    dual[generator.integers(len(dual))] = np.inf
    sampled = (network(region.sample(3000, torch.Generator().manual_seed(seed))) @ rows.T).amin(0)
    for cost, constant, smallest in zip(costs, constants, sampled.tolist(), strict=True):
        assert certified_minimum(relaxed.program, cost, dual) + constant <= smallest + 1e-9


@dataclasses.dataclass(frozen=True)
class Broken(kd.Solver, SolverSession):
    """A solver whose answers are of one kind, whatever it is asked."""

    answer: LPSolution

    @property
    def name(self) -> str:
        return "broken"

    def session(self, program: Program) -> Broken:
        return self

    def minimise(self, cost: np.ndarray, seconds: float) -> LPSolution:
        return self.answer


@pytest.mark.parametrize(
    "answer",
    [
        LPSolution(None, "broken: no answer"),
        LPSolution(np.full(10_000, 1e9), "broken: nonsense"),
        LPSolution(np.full(10_000, np.nan), "broken: nan"),
    ],
    ids=["none", "nonsense", "nan"],
)
def test_a_solver_that_fails_leaves_the_best_sound_bound_and_a_note(answer: LPSolution) -> None:
    network, region, rows = problem(3, 3, 6, 4, 2)
    if answer.dual is not None:
        size = kd.TriangleLP().abstract(kd.Query(network, region)).session(network.output.name)[0].program.rows.shape[0]
        answer = dataclasses.replace(answer, dual=answer.dual[:size])
    abstraction = kd.TriangleLP(solver=Broken(answer)).abstract(kd.Query(network, region))
    found = abstraction.minimise(Objective.linear(network, network.output.name, rows))
    assert (found.lower[0] >= minima(kd.DeepPoly(), network, region, rows)).all()
    assert (found.lower[0] <= (network(region.sample(2000)) @ rows.T).amin(0)).all()
    assert any("broken" in note for note in found.notes)


def test_time_is_respected_and_said() -> None:
    network, region, rows = problem(1, 6, 40, 40, 40, 4)
    result = kd.certify(network, region, kd.claim(rows), kd.KReluLP(k=3, refine="all"), timeout_s=0.5)
    assert result.seconds < 15
    assert result.verdict in (kd.Verdict.TIMEOUT, kd.Verdict.VERIFIED)
    assert (result.lower_bounds >= minima(kd.DeepPoly(), network, region, rows) - 1e-9).all()
    if result.verdict is kd.Verdict.TIMEOUT:
        assert "time limit of 0.5 s" in result.reason


# ---- a user's own ---------------------------------------------------------------------------------------------------


class FirstTwo(kd.Grouping):
    """One group: the first two unstable neurons."""

    def groups(self, abstraction: Abstraction, node: str) -> list[Tensor]:
        unstable = abstraction.bounds[node].unstable[0].nonzero()[:, 0]
        return [unstable[None, :2]] if len(unstable) > 1 else []


def test_a_grouping_of_ones_own() -> None:
    network, region, rows = problem(3, 4, 8, 6, 2)
    got = minima(kd.KReluLP(grouping=FirstTwo()), network, region, rows)
    assert (got >= minima(kd.TriangleLP(), network, region, rows) - 1e-7).all()


@dataclass(frozen=True)
class Given(kd.Refinement):
    """The same bounds for all objectives."""

    lower: Tensor

    def minimise(self, abstraction: Abstraction, objective: Objective, deadline: kd.Deadline) -> Tensor:
        return self.lower


def test_a_refinement_of_ones_own() -> None:
    network, region, rows = problem(3, 3, 6, 4, 2)
    exact = exact_minima(network, region, rows)
    refined = kd.Refined(Given(1 + 0 * exact[None]))
    assert kd.certify(network, region, kd.claim(rows, 1 - exact), refined).verdict is kd.Verdict.VERIFIED
    loose = kd.Refined(Given(torch.full_like(exact[None], -torch.inf)), base=kd.DeepPoly())
    deeppoly = minima(kd.DeepPoly(), network, region, rows)
    torch.testing.assert_close(minima(loose, network, region, rows), deeppoly, rtol=0, atol=0)
    for wrong in (exact, torch.full_like(exact[None], torch.nan)):
        with pytest.raises(kd.InputError, match="refinement: bounds of shape"):
            kd.certify(network, region, kd.claim(rows), kd.Refined(Given(wrong)))


def test_known_bounds_tighten_the_program() -> None:
    network, region, rows = problem(3, 3, 6, 4, 2)
    name = network.pre_activations[1]
    values = network.values(region.sample(100_000, torch.Generator().manual_seed(0)))[name]
    known = {name: kd.Bounds(values.amin(0, keepdim=True) - 0.01, values.amax(0, keepdim=True) + 0.01)}
    with_them, without = (minima(kd.KReluLP(k=2), network, region, rows, k) for k in (known, None))
    assert (with_them >= without - 1e-7).all()
    assert (with_them > without + 1e-6).any()


def test_a_batch_is_refused() -> None:
    network = dense(3, 4, 2)
    with pytest.raises(kd.InputError, match="one region at a time"):
        kd.KReluLP().abstract(kd.Query(network, kd.ball(torch.zeros(2, 3), 0.1)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"k": 0}, "k = 0"),
        ({"partition_size": 2}, "partition_size = 2"),
        ({"overlap": 3}, "overlap = 3"),
        ({"refine": "some"}, "refine: 'some' is not one of output, all"),
        ({"formulation": "dual"}, "formulation: 'dual'"),
        ({"formulation": "hull", "k": 4}, "hulls of k = 4"),
        ({"solver": "gurobi2"}, "solver: 'gurobi2' is not one of auto, highspy"),
        ({"grouping": "random"}, "grouping: 'random'"),
        ({"base": "zonotop"}, "base: 'zonotop'"),
        ({"kk": 3}, "'kk' is not one of its options"),
    ],
)
def test_wrong_options_are_named(options: dict[str, object], message: str) -> None:
    network = dense(3, 4, 2)
    with pytest.raises(kd.InputError, match=message):
        kd.bounds(network, kd.ball(torch.zeros(1, 3), 0.1), "krelu-lp", **options)
