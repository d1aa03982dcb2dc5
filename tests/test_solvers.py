"""Every solver, by one contract: multipliers certify, time limits hold, what it cannot take is refused by name."""

from __future__ import annotations

import math
import time

import numpy as np
import pytest
import torch
from networks import dense
from scipy import sparse
from scipy.optimize import linprog

import kreludomain as kd
from kreludomain.programs import (
    Abilities,
    LPSolution,
    MilpStatus,
    Model,
    Program,
    RelaxedNetwork,
    SolverSession,
    certified_minimum,
    check_solver,
    make_solver,
    proves_infeasible,
    relax_network,
)
from kreludomain.programs.solvers import HIGHS
from kreludomain.property import Objective


class Linprog(kd.Solver):
    """A solver of a user's own, by SciPy."""

    name = "linprog"

    def session(self, program: Program) -> LinprogSession:
        return LinprogSession(program)


class LinprogSession(SolverSession):
    def __init__(self, program: Program) -> None:
        self.own, self.whole = len(program.row_lower), program.with_region_rows()

    def minimise(self, cost: np.ndarray, seconds: float) -> LPSolution:
        whole = self.whole
        below, above = np.isfinite(whole.row_lower), np.isfinite(whole.row_upper)
        found = linprog(
            np.pad(cost, (0, len(whole.lower) - len(cost))),
            A_ub=sparse.vstack([whole.rows[above], -whole.rows[below]]),
            b_ub=np.concatenate([whole.row_upper[above], -whole.row_lower[below]]),
            bounds=np.stack([whole.lower, whole.upper], axis=1),
            options={} if math.isinf(seconds) else {"time_limit": seconds},
        )
        if found.status != 0:
            return LPSolution(None, f"linprog: {found.message}")
        dual = np.zeros(len(whole.row_lower))
        dual[above] += found.ineqlin.marginals[: above.sum()]
        dual[below] -= found.ineqlin.marginals[above.sum() :]
        return LPSolution(dual[: self.own])


class Nonsense(kd.Solver, SolverSession):
    """A solver whose multipliers have nothing to do with the program."""

    name = "nonsense"
    abilities = Abilities(norms=frozenset({2.0}))

    def session(self, program: Program) -> Nonsense:
        self.size, self.generator = len(program.row_lower), np.random.default_rng(0)
        return self

    def minimise(self, cost: np.ndarray, seconds: float) -> LPSolution:
        dual = self.generator.normal(size=self.size) * 10.0 ** self.generator.integers(-3, 12)
        dual[: self.size // 3] = self.generator.choice([np.nan, np.inf, -np.inf, 0.0], size=self.size // 3)
        return LPSolution(dual)


#: Solvers by name (those of cvxpy that come with it), and a user's own. ``highs`` is HiGHS through cvxpy.
SOLVERS: list[str | kd.Solver] = ["highspy", "clarabel", "scs", "scipy", "highs", Linprog()]
LINEAR_ONLY = ["highspy", "scipy", "highs", "osqp", Linprog()]


def known(solver: str | kd.Solver) -> str:
    return solver if isinstance(solver, str) else solver.name


def relaxed(norm: str = "inf", seed: int = 2) -> RelaxedNetwork:
    """Triangles of a small network over a ball that is cut by a box."""
    network = dense(4, 8, 6, 3, seed=seed)
    region = kd.ball(torch.full((1, 4), 0.2), 0.5, norm, clip=(-0.2, 1.0))
    return relax_network(kd.abstract(network, region, "deeppoly"))


def costs(found: RelaxedNetwork, count: int = 3) -> np.ndarray:
    network = found.rounding.network
    objective = Objective.linear(network, network.output.name, torch.eye(count, dtype=torch.float64))
    return found.costs(objective)[0]


def reference(program: Program, cost: np.ndarray) -> float:
    """The minimum over a program whose region is linear, by SciPy."""
    whole = program.with_region_rows()
    below, above = np.isfinite(whole.row_lower), np.isfinite(whole.row_upper)
    found = linprog(
        np.pad(cost, (0, len(whole.lower) - len(cost))),
        A_ub=sparse.vstack([whole.rows[above], -whole.rows[below]]),
        b_ub=np.concatenate([whole.row_upper[above], -whole.row_lower[below]]),
        bounds=np.stack([whole.lower, whole.upper], axis=1),
    )
    assert found.status == 0
    return float(found.fun)


@pytest.mark.parametrize("norm", ["inf", "1"])
@pytest.mark.parametrize("solver", SOLVERS, ids=known)
def test_the_certified_bound_is_the_minimum(solver: str | kd.Solver, norm: str) -> None:
    found = relaxed(norm)
    program, tolerance = found.program, 1e-2 if solver == "scs" else 1e-5  # SCS is a first-order method
    assert program.region is not None
    session = make_solver(solver, program.region).prepare(program)
    for cost in costs(found):
        solution = session.minimise(cost, math.inf)
        assert solution.failure is None
        assert solution.dual is not None
        assert solution.dual.shape == program.row_lower.shape
        value, least = certified_minimum(program, cost, solution.dual), reference(program, cost)
        assert least - tolerance <= value <= least + 1e-9


@pytest.mark.parametrize("norm", ["inf", "1", "2"])
def test_multipliers_that_are_nonsense_bound_nothing_too_high(norm: str) -> None:
    found = relaxed(norm)
    assert found.program.region is not None
    points = found.program.region.sample(2000, torch.Generator().manual_seed(0))
    values = found.rounding.network(points).numpy()
    session = Nonsense().prepare(found.program)
    network = found.rounding.network
    objective = Objective.linear(network, network.output.name, torch.eye(3, dtype=torch.float64))
    for _ in range(50):
        for cost, constant, least in zip(*found.costs(objective), values.min(0), strict=True):
            dual = session.minimise(cost, math.inf).dual
            assert dual is not None
            assert certified_minimum(found.program, cost, dual) + constant <= least


@pytest.mark.parametrize("solver", SOLVERS, ids=known)
def test_a_solve_ends_in_its_time(solver: str | kd.Solver) -> None:
    network = dense(6, 60, 60, 60, 2, seed=0)
    found = relax_network(kd.abstract(network, kd.ball(torch.zeros(1, 6), 0.7), "deeppoly"))
    assert found.program.region is not None
    made = make_solver(solver, found.program.region)
    assert made.abilities.time_limit
    session, cost = made.prepare(found.program), costs(found, 2)[0]
    start = time.monotonic()
    solution = session.minimise(cost, 1e-3)
    assert time.monotonic() - start < 2
    assert solution.failure is not None or solution.dual is not None


class Untimed(Linprog):
    """The same without a time limit."""

    @property
    def abilities(self) -> Abilities:
        return Abilities(time_limit=False)


def test_a_deadline_that_a_solver_cannot_keep_is_said() -> None:
    network, region = dense(3, 5, 2, seed=1), kd.ball(torch.zeros(1, 3), 0.5)
    abstraction = kd.TriangleLP(solver=Untimed()).abstract(kd.Query(network, region))
    objective = Objective.linear(network, network.output.name, torch.eye(2, dtype=torch.float64))
    notes = abstraction.minimise(objective, kd.Deadline.after(60)).notes
    assert any("linprog has no time limit" in note for note in notes)
    assert not any("time limit" in note for note in abstraction.minimise(objective).notes)


@pytest.mark.parametrize("solver", LINEAR_ONLY, ids=known)
def test_cones_are_refused_by_name(solver: str | kd.Solver) -> None:
    program = relaxed("2").program
    assert program.region is not None
    made = make_solver(solver, program.region)
    assert not made.takes(program.region_rows)
    with pytest.raises(kd.InputError, match=rf"^solver: {known(solver)} takes linear regions only.*use clarabel$"):
        made.prepare(program)


@pytest.mark.parametrize("solver", ["clarabel", Linprog()], ids=known)
def test_integers_and_warm_starts_are_refused_by_name(solver: str | kd.Solver) -> None:
    model = Model()
    model.binaries(2)
    made = make_solver(solver, kd.box(torch.zeros(1, 1), torch.ones(1, 1)))
    with pytest.raises(kd.InputError, match=f"^solver: {known(solver)} takes no integers"):
        made.prepare(model.program())
    with pytest.raises(kd.InputError, match=f"^solver: {known(solver)} takes no integers"):
        made.minimise_integer(model.program(), np.ones(2), math.inf, 1e-6)
    with pytest.raises(kd.InputError, match=f"^solver: {known(solver)} does not go on from an earlier basis"):
        made.warm_session(model.program().relaxed())


def test_auto_takes_what_the_region_needs() -> None:
    x = torch.zeros(1, 3)
    named = {norm: make_solver("auto", kd.ball(x, 0.1, norm)).name for norm in ("inf", "1", "2")}
    assert named == {"inf": "highspy", "1": "highspy", "2": "clarabel"}


def test_a_solver_that_is_none_is_refused() -> None:
    with pytest.raises(kd.InputError, match="solver: 'gurobi2' is not one of auto, highspy"):
        check_solver("gurobi2")
    with pytest.raises(kd.InputError, match=r"solver: 3 is neither a name nor a kreludomain\.Solver"):
        check_solver(3)  # type: ignore[arg-type]


def knapsack() -> tuple[Program, np.ndarray]:
    """``max 5 a + 4 b + 3 c`` with ``2 a + 3 b + c <= 4`` in binaries: a and c, 8."""
    model = Model()
    chosen = model.binaries(3)
    model.require((np.array([2.0, 3.0, 1.0]) * chosen).total(), upper=4.0)
    return model.program(), np.array([-5.0, -4.0, -3.0])


def test_integers() -> None:
    program, cost = knapsack()
    found = HIGHS.minimise_integer(program, cost, math.inf, 1e-9)
    assert (found.status, found.bound) == (MilpStatus.OPTIMAL, pytest.approx(-8.0))
    assert found.point is not None
    assert found.point.round().tolist() == [1, 0, 1]
    relaxed_bound = HIGHS.minimise_integer(program.relaxed(), cost, math.inf, 1e-9).bound
    assert relaxed_bound == pytest.approx(reference(program, cost), abs=1e-6)
    fixed = HIGHS.minimise_integer(program.fixing(np.array([0]), np.array([0.0])), cost, math.inf, 1e-9)
    assert fixed.bound == pytest.approx(-7.0)
    impossible = program.fixing(np.array([0, 1]), np.array([1.0, 1.0]))
    assert HIGHS.minimise_integer(impossible, cost, math.inf, 1e-9).status == MilpStatus.INFEASIBLE
    late = HIGHS.minimise_integer(program, cost, 0.0, 1e-9)
    assert (late.status, late.bound, late.point) == (MilpStatus.TIME, -math.inf, None)


def test_a_ray_proves_that_there_is_no_solution() -> None:
    """``a + b >= 3`` for ``a, b`` in [0, 1], by the multiplier 1; and no multiplier proves it of ``a + b >= 2``."""
    for least, infeasible in ((3.0, True), (2.0, False)):
        model = Model()
        model.require(model.variables(np.zeros(2), np.ones(2)).total(), lower=least)
        program = model.program()
        assert proves_infeasible(program, np.array([1.0])) == infeasible
        assert proves_infeasible(program, np.array([-1.0])) == infeasible  # either sign of a ray counts
        session = HIGHS.warm_session(program)
        ray = session.minimise(np.zeros(2), None, math.inf, math.inf).ray
        assert (ray is not None) == infeasible
        assert ray is None or proves_infeasible(program, ray)


def test_a_warm_session_takes_other_bounds() -> None:
    program, cost = knapsack()
    session = HIGHS.warm_session(program.relaxed())
    first = session.minimise(cost, None, math.inf, math.inf)
    session.change_columns(np.array([0]), np.array([0.0]), np.array([0.0]))
    second = session.minimise(cost, first.basis, math.inf, math.inf)
    for dual, changed in ((first.dual, program), (second.dual, program.fixing(np.array([0]), np.array([0.0])))):
        assert dual is not None
        assert certified_minimum(changed, cost, dual) == pytest.approx(reference(changed, cost), abs=1e-9)
