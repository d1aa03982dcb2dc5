"""The complete method: verdicts equal to enumeration, splits that are sound, limits that hold."""

from __future__ import annotations

import math
import re
import time
from dataclasses import replace
from itertools import pairwise
from typing import Any

import pytest
import torch
from exact import exact_minima
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import conv, dense, pooled, residual
from torch import Tensor

import kreludomain as kd
from kreludomain.bounding import KRelu
from kreludomain.bounding.dual import ComputeOptions, DualAscent, SplitDual
from kreludomain.branching import Branching, Progress, branch_and_bound
from kreludomain.branching.refined import RefinedBranching, _decided
from kreludomain.branching.spill import SpillStore
from kreludomain.deadline import Deadline
from kreludomain.network import Runtime
from kreludomain.property import Objective
from kreludomain.run.config.methods import named_method
from kreludomain.verify import make_method


def cube(network: kd.Network, radius: float = 0.5) -> kd.Region:
    return kd.ball(torch.full((1, *network.input.shape), 0.3, dtype=torch.float64), radius)


def rooted(network: kd.Network, region: kd.Region, **options: Any) -> tuple[KRelu, Any]:
    method = KRelu(preset="fast", inner_steps=40, passes=3, **options)
    return method, method.abstract(kd.Query(network, region))


def split_dual(network: kd.Network, region: kd.Region, objective: Objective) -> SplitDual:
    _, abstraction = rooted(network, region)
    return SplitDual.of(abstraction.problem(objective.node), ComputeOptions())


def everywhere(method: KRelu, root: Any, objective: Objective, deadline: Deadline) -> Tensor:
    """Bounds ``(m,)`` of the rows by contradiction and branching, each as a clause of its own."""
    lower = []
    for row in range(objective.count):
        clause = objective.rows(row, row + 1)
        assumed = method.refine_under(root, clause, root.minimise(clause).lower[0], deadline=deadline)
        if not assumed.proved:
            found = RefinedBranching(method, Branching(), ComputeOptions()).prove(clause, assumed, None, deadline)
            assert found.counterexample is None
            assumed = replace(assumed, lower=assumed.lower.clone().fill_(found.lower))
        lower.append(assumed.everywhere)
    return torch.cat(lower)


@pytest.mark.parametrize(("seed", "few_inputs"), [(0, 8), (1, 8), (2, 8), (3, 8), (1, 0), (2, 0)])
def test_verdicts_equal_enumeration_of_activation_patterns(seed: int, few_inputs: int) -> None:
    network = dense(3, 7, 6, 3, seed=seed, integer=seed % 2 == 1)
    region, rows = cube(network), torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double()
    minima = exact_minima(network, region.fit(network), rows)
    for shift, expected in ((0.02, "verified"), (-0.02, "falsified")):
        for row, minimum in zip(rows, minima.tolist(), strict=True):
            scale = 1.0 + abs(minimum)
            claim = kd.claim(row[None], torch.tensor([shift * scale - minimum], dtype=torch.float64))
            found = kd.certify(network, region, claim, "complete", timeout_s=60.0, splitting={"few_inputs": few_inputs})
            assert found.verdict == expected


@pytest.mark.parametrize("seed", [1, 2])
def test_verdicts_are_the_same_where_branching_does_not_promise_to_end(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then contradiction decides, and branching with bounds made anew."""
    monkeypatch.setattr("kreludomain.branching.ExpectedToEnd.__call__", lambda self, progress: False)
    test_verdicts_equal_enumeration_of_activation_patterns(seed, 0)


@pytest.mark.parametrize("seed", [0, 1, 2, 3])
def test_what_just_fails_is_never_verified_where_no_attack_finds_it(seed: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """Then bounds and branching alone have to keep from a proof."""
    monkeypatch.setattr("kreludomain.verify.complete.refuted", lambda query, points: None)
    network = dense(3, 7, 6, 3, seed=seed, integer=seed % 2 == 1)
    region, rows = cube(network), torch.randn(3, 3, generator=torch.Generator().manual_seed(seed)).double()
    for row, minimum in zip(rows, exact_minima(network, region.fit(network), rows).tolist(), strict=True):
        claim = kd.claim(row[None], torch.tensor([-1e-3 * (1.0 + abs(minimum)) - minimum], dtype=torch.float64))
        assert (
            kd.certify(
                network, region, claim, "complete", timeout_s=3.0, attack=False, splitting={"few_inputs": 0}
            ).verdict
            != "verified"
        )


def test_what_a_search_decides_before_the_last_bounds_spares_making_them(monkeypatch: pytest.MonkeyPatch) -> None:
    network, left = dense(3, 9, 8, 7, 1, seed=5), list[int]()
    region, row = cube(network), torch.ones(1, 1, dtype=torch.float64)
    minimum = exact_minima(network, region.fit(network), row)
    further = KRelu.next_stage

    def counted(self: KRelu, *args: Any) -> Any:
        found = further(self, *args)
        left.extend([] if found is None else [found.stages_left])
        return found

    monkeypatch.setattr(KRelu, "next_stage", counted)
    claim = kd.claim(row, 0.1 - minimum)
    assert kd.certify(network, region, claim, "complete", splitting={"few_inputs": 0}).verdict == "verified"
    assert left == [1]
    monkeypatch.setattr("kreludomain.branching.ExpectedToEnd.__call__", lambda self, progress: False)
    assert kd.certify(network, region, claim, "complete", splitting={"few_inputs": 0}).verdict == "verified"
    assert left == [1, 1, 0]


def test_a_search_that_is_broken_off_has_sound_bounds_and_says_what_is_open() -> None:
    network = dense(3, 9, 8, 7, 2, seed=5)
    region = cube(network).fit(network)
    rows = torch.eye(2, dtype=torch.float64)
    minima = exact_minima(network, region, rows)
    objective = Objective.linear(network, network.output.name, rows, 0.01 - minima).pulled_back(network)
    dual, seen = split_dual(network, region, objective), list[Progress]()

    def going(progress: Progress) -> bool:
        seen.append(progress)
        return len(seen) < 4

    found = branch_and_bound(dual, objective, Branching(batch=2), going=going)
    assert len(seen) == 4
    assert found.open > 0
    assert bool((found.lower <= 0.01 + 1e-9).all())
    assert [progress.bounded for progress in seen] == [2, 6, 10, 14]
    assert all(a.worst <= b.worst + 1e-9 for a, b in pairwise(seen))
    assert seen[0].worst == seen[0].first
    assert seen[-1].gain == pytest.approx((seen[-1].worst - seen[0].first) / math.log2(14 / 2 + 1))


@pytest.mark.parametrize("few_inputs", [0, 8])
def test_a_minimum_of_exactly_zero_is_never_verified_when_positive_is_claimed(few_inputs: int) -> None:
    network = dense(2, 4, 3, 1, seed=1, integer=True)
    region = cube(network)
    minimum = exact_minima(network, region.fit(network), torch.ones(1, 1, dtype=torch.float64))
    claim = kd.claim(torch.ones(1, 1), -minimum)
    found = kd.certify(network, region, claim, "complete", timeout_s=10.0, splitting={"few_inputs": few_inputs})
    assert found.verdict != "verified"


@pytest.mark.parametrize("few_inputs", [0, 8])
def test_a_clause_is_proved_by_any_of_its_rows(few_inputs: int) -> None:
    network = dense(2, 5, 4, 2, seed=3)
    region = cube(network)
    low = exact_minima(network, region.fit(network), torch.eye(2, dtype=torch.float64))
    rows, shift = torch.eye(2), torch.stack([-low[0] - 1, -low[1] + 0.05])
    both = kd.claim(rows, shift)
    either = kd.claim(rows, shift, clause=torch.tensor([0, 0]))
    for claim, expected in ((either, "verified"), (both, "falsified")):
        found = kd.certify(network, region, claim, "complete", timeout_s=30.0, splitting={"few_inputs": few_inputs})
        assert found.verdict == expected


@pytest.mark.parametrize("make", [lambda: dense(3, 9, 8, 7, 2, seed=4), conv, residual, pooled])
@pytest.mark.parametrize("rows", [1, 2])
def test_bounds_under_a_premise_hold_where_it_does(make: Any, rows: int) -> None:
    """And they are tighter than those of the region, for inner neurons too."""
    network = make()
    region = cube(network, 0.3).fit(network)
    x = region.sample(40_000, torch.Generator().manual_seed(0))
    values = network.values(x)
    outputs = values[network.output.name].flatten(1)
    weights = torch.randn(rows, outputs.shape[1], generator=torch.Generator().manual_seed(1)).double()
    margins = outputs @ weights.T
    shift = -margins.quantile(0.2 if rows == 1 else 0.4, dim=0)
    clause = Objective.linear(network, network.output.name, weights, shift).pulled_back(network)
    holds = (margins + shift <= 0).all(1)
    assert int(holds.sum()) > 100
    method, here = rooted(network, region)
    before = here.bounds
    for _ in range(2):
        here = method.refine_pass(here, clause, Deadline())
        for name, bounds in here.bounds.items():
            assert bool((values[name][holds] >= bounds.lower - 1e-9).all())
            assert bool((values[name][holds] <= bounds.upper + 1e-9).all())
        lower = here.minimise(clause).lower[0]
        assert bool((lower <= (margins + shift)[holds].amin(0) + 1e-9).all())
    widths = [sum(float(b[name].width.sum()) for name in network.pre_activations) for b in (before, here.bounds)]
    assert widths[1] < widths[0] or make is pooled  # whose bounds are too loose for output constraints to count


def test_a_clause_is_proved_by_contradiction_where_none_of_its_rows_is_proved() -> None:
    """Of ``x + s`` and ``-x + s`` one is positive, and neither everywhere; with one row there is a bound for it too."""
    network = dense(2, 6, 5, 1, seed=2)
    region = cube(network).fit(network)
    method, root = rooted(network, region)
    rows = torch.tensor([[1.0], [-1.0]])
    ends = network(region.sample(10_000)).aminmax()
    middle, little = float(ends.min + ends.max) / 2, float(ends.max - ends.min) / 5
    shift = torch.tensor([little - middle, little + middle])
    clause = Objective.linear(network, network.output.name, rows, shift).pulled_back(network)
    known = root.minimise(clause).lower[0]
    assert bool((known < 0).all())
    found = method.refine_under(root, clause, known)
    assert found.proved
    alone = clause.rows(0, 1)
    assert not method.refine_under(root, alone, known[:1]).proved
    assert float(method.refine_under(root, alone, known[:1]).everywhere) <= float(ends.min) + float(shift[0]) + 1e-9


@pytest.mark.parametrize("make", [conv, residual, pooled])
def test_other_networks_are_decided_and_counterexamples_replay(make: Any) -> None:
    network = make()
    region = cube(network, 0.08)
    outputs = network(region.fit(network).sample(2000, torch.Generator().manual_seed(0)))
    low = outputs.min(0).values
    easy, hard = kd.claim(torch.eye(len(low)), 3.0 - low), kd.claim(torch.eye(len(low)), -low - 0.01)
    assert kd.certify(network, region, easy, "complete", timeout_s=30.0).verdict == "verified"
    found = kd.certify(network, region, hard, "complete", timeout_s=30.0)
    assert found.verdict == "falsified"
    assert found.counterexample is not None
    assert bool((Runtime(network)(found.counterexample[None]).double() - low - 0.01 <= 0).any())


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), integer=st.booleans())
def test_bounds_of_subproblems_hold_where_their_signs_do(seed: int, integer: bool) -> None:
    """Every point of the region lies in the subproblem that its own signs make, whatever multipliers are."""
    network = dense(3, 6, 5, 2, seed=seed % 50, integer=integer)
    region, generator = cube(network).fit(network), torch.Generator().manual_seed(seed)
    objective = Objective.linear(network, network.output.name, torch.randn(1, 2, generator=generator).double())
    objective = objective.pulled_back(network)
    dual = split_dual(network, region, objective)
    points = region.sample(64, generator)
    values = network.values(points)
    signs = torch.cat([values[name].sign() for name in network.pre_activations], dim=1).T.to(torch.int8)
    some = torch.rand(signs.shape, generator=generator) < 0.6
    many = objective.select(torch.zeros(64, dtype=torch.long))
    lower, proofs = dual.solve(many, torch.where(some, signs, 0), DualAscent(20))
    exact = objective.evaluate(values[objective.node])[:, 0]
    assert bool((lower <= exact + 1e-9).all())
    free, _ = dual.solve(many, torch.zeros_like(signs), DualAscent(0), proofs)
    decided, _ = dual.solve(many, torch.where(some, signs, 0), DualAscent(0), proofs)
    assert bool((decided >= free - 1e-6).all())  # a split only removes


def test_branching_and_rebounding_come_to_the_exact_minimum() -> None:
    network = dense(3, 7, 6, 2, seed=5)
    region = cube(network).fit(network)
    rows = torch.eye(2, dtype=torch.float64)
    minima = exact_minima(network, region, rows)
    objective = Objective.linear(network, network.output.name, rows, 0.05 - minima).pulled_back(network)
    method, root = rooted(network, region)
    assert not bool((root.minimise(objective).lower > 0).all())
    fixed = branch_and_bound(split_dual(network, region, objective), objective, Branching(batch=4))
    assert bool(((fixed.lower > 0) & (fixed.lower <= 0.05 + 1e-9)).all())
    assert fixed.open == 0
    lower = everywhere(method, root, objective, Deadline())
    assert bool(((lower > 0) & (lower <= 0.05 + 1e-9)).all())


def test_a_subproblem_whose_scores_are_not_numbers_is_not_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    def no_numbers(self: SplitDual, objective: Objective, signs: Tensor, multipliers: Any) -> tuple[Tensor, Tensor]:
        scores, points = inspect(self, objective, signs, multipliers)
        return torch.full_like(scores, torch.nan), points

    inspect = SplitDual.branching_scores
    network = dense(3, 9, 8, 7, 2, seed=5)
    region = cube(network).fit(network)
    rows = torch.eye(2, dtype=torch.float64)
    minima = exact_minima(network, region, rows)
    objective = Objective.linear(network, network.output.name, rows, -0.01 - minima).pulled_back(network)
    dual = split_dual(network, region, objective)
    monkeypatch.setattr(SplitDual, "branching_scores", no_numbers)
    assert bool((branch_and_bound(dual, objective).lower <= -0.01 + 1e-9).all())


def test_a_split_decides_one_neuron_in_any_memory_format() -> None:
    lower = -torch.rand(1, 3, 4, 5, dtype=torch.float64)
    odd = kd.Bounds(lower.to(memory_format=torch.channels_last), (-lower).to(memory_format=torch.channels_last))
    for before in (kd.Bounds(lower, -lower), odd):
        for side in (-1, 1):
            found = _decided(before, torch.tensor(37), side)
            changed = found.lower if side > 0 else found.upper
            kept, of = (found.upper, before.upper) if side > 0 else (found.lower, before.lower)
            assert torch.equal(kept, of)
            assert (changed.flatten() == 0).nonzero().flatten().tolist() == [37]
    assert torch.equal(odd.lower, lower)


def test_what_hardly_holds_is_proved_by_linear_programs_over_the_last_phases() -> None:
    network = dense(3, 7, 6, 2, seed=5)
    region = cube(network).fit(network)
    rows = torch.eye(2, dtype=torch.float64)
    minima = exact_minima(network, region, rows)
    method, root = rooted(network, region)
    for margin, holds in ((1e-5, True), (-1e-5, False)):
        objective = Objective.linear(network, network.output.name, rows, margin - minima).pulled_back(network)
        lower = everywhere(method, root, objective, Deadline.after(30))
        assert bool((lower > 0).all()) == holds
        assert bool((lower <= margin + 1e-8).all())


def test_rebounding_never_passes_the_minimum_when_it_is_cut_short() -> None:
    network = dense(3, 6, 6, 6, 2, seed=8)
    region = cube(network).fit(network)
    minima = exact_minima(network, region, torch.eye(2, dtype=torch.float64))
    objective = Objective.linear(network, network.output.name, torch.eye(2), 1e-3 - minima).pulled_back(network)
    method, root = rooted(network, region)
    for seconds in (0.2, 0.5, 1.0):
        lower = everywhere(method, root, objective, Deadline.after(seconds))
        assert bool((lower <= 1e-3 + 1e-9).all())


def test_the_time_limit_holds_where_nothing_can_be_decided() -> None:
    network = dense(20, 60, 60, 60, 60, 5, seed=2)
    region = cube(network, 2.0)
    start = time.monotonic()
    found = kd.certify(network, region, kd.claim(torch.eye(5), torch.full((5,), 500.0)), "complete", timeout_s=1.0)
    assert found.verdict in ("timeout", "falsified", "verified")
    assert time.monotonic() - start < 15


@pytest.mark.parametrize("memory_mb", [1, 64])
def test_a_store_gives_back_what_was_put_in_memory_or_on_disk(memory_mb: int) -> None:
    store = SpillStore({"a": ((300_000,), torch.float32), "b": ((3,), torch.int8)}, memory_mb)
    generator = torch.Generator().manual_seed(0)

    def some(n: int) -> dict[str, Tensor]:
        return {"a": torch.rand(n, 300_000, generator=generator), "b": torch.randint(-1, 2, (n, 3)).to(torch.int8)}

    first, second = some(20), some(9)
    places = store.put(first)
    back = store.take(places[5:9])
    assert all(torch.equal(back[name], first[name][5:9]) for name in first)
    again = store.put(second)
    assert set(again) & set(places[5:9])
    assert not set(again) & {*places[:5], *places[9:]}
    for put, where in ((second, again), ({name: value[9:] for name, value in first.items()}, places[9:])):
        taken = store.take(where)
        assert all(torch.equal(taken[name], put[name]) for name in put)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"branching": {"batch": 0}}, "branching.batch: 0"),
        ({"branching": {"steps": -1}}, "branching.steps: -1"),
        ({"branching": {"rule": "x"}}, "branching.rule: 'x' is not one of babsr, intercept"),
        ({"branching": 3}, "branching: should be a mapping of keys"),
        ({"bounder": {"preset": "x"}}, "bounder.preset: 'x'"),
        ({"bounder": {"chunks": 3}}, "bounder.chunks: unknown key; known are k, "),
        ({"splitting": {"few_inputs": -1}}, "splitting.few_inputs: -1"),
        ({"attack": {"rounds": "3"}}, "attack.rounds: input should be a whole number, not '3'"),
        ({"attack": False}, "attack: should be a mapping of keys"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, Any], message: str) -> None:
    with pytest.raises(kd.InputError, match=f"^{re.escape(message)}"):
        make_method("complete", **options)
    with pytest.raises(kd.InputError, match=f"^x: {re.escape(message)}"):
        named_method({"name": "complete", **options}, "x")


def test_parts_are_reached_by_the_same_names_from_python_and_yaml() -> None:
    """What a mapping does not give is as in the default; an object is taken as it is."""
    item = {"bounder": {"preset": "tight", "overlap": 2}, "splitting": {"few_inputs": 3}, "attack": {"rounds": 1}}
    made = named_method({"name": "complete", **item}, "x")
    expected = kd.Complete(
        bounder=kd.KRelu(preset="tight", overlap=2, steps=100, gain_factor=float("inf")),
        splitting=kd.InputSplitting(few_inputs=3),
        attack=kd.PGDAttack(rounds=1),
    )
    assert made.method == make_method("complete", **item) == expected
    assert made.label == "complete bounder.overlap=2 bounder.preset=tight splitting.few_inputs=3 attack.rounds=1"
    assert named_method(made.resolved(), "x") == made
    assert made.is_joint
    assert kd.Complete(bounder=kd.KRelu(steps=7)).bounder == kd.KRelu(steps=7)
    assert kd.Complete().bounder == kd.KRelu(steps=100, gain_factor=float("inf"))
