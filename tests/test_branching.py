"""The contract of branching: whatever a rule says, nothing false is proved and no subproblem is lost."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pytest
import torch
from exact import exact_minima
from networks import dense
from torch import Tensor

import kreludomain as kd
from kreludomain.bounding.dual import ComputeOptions, DualAscent, SplitDual
from kreludomain.branching import RULES, BranchingRule, OpenSet, SplitCandidates, branch_and_bound
from kreludomain.options import Unlimited
from kreludomain.property import Objective


@dataclass(frozen=True)
class Constant(BranchingRule):
    """The same score for all neurons, those that cannot be split too: one that is positive, none, or no number."""

    score: Unlimited

    def scores(self, candidates: SplitCandidates) -> Tensor:
        return torch.full(candidates.signs.shape, self.score)


@dataclass(frozen=True)
class Random(BranchingRule):
    """Scores that mean nothing, half of them negative."""

    seed: int = 0

    def scores(self, candidates: SplitCandidates) -> Tensor:
        generator = torch.Generator().manual_seed(self.seed)
        return torch.randn(candidates.signs.shape, generator=generator)


@dataclass(frozen=True)
class SomeNaN(BranchingRule):
    """BaBSR, but every other subproblem's scores are no numbers."""

    def scores(self, candidates: SplitCandidates) -> Tensor:
        scores = candidates.relaxation_losses.clone()
        scores[:, ::2] = torch.nan
        return scores


SENSIBLE = [*(kind() for kind in RULES.values()), Constant(1.0), Constant(math.inf)]
SENSELESS = [Constant(math.nan), Constant(0.0), Constant(-1.0), Constant(-math.inf), Random(), Random(1), SomeNaN()]


def problem(seed: int, shift: float) -> tuple[SplitDual, Objective, Tensor]:
    """Two rows whose minima over the region are ``shift``, and their exact minima."""
    network = dense(2, 5, 4, 2, seed=seed, integer=seed % 2 == 1)
    region = kd.ball(torch.full((1, 2), 0.3, dtype=torch.float64), 0.5).fit(network)
    rows = torch.eye(2, dtype=torch.float64)
    minima = exact_minima(network, region, rows)
    objective = Objective.linear(network, network.output.name, rows, shift - minima).pulled_back(network)
    abstraction = kd.KRelu(preset="fast").abstract(kd.Query(network, region))
    return SplitDual.of(abstraction.problem(objective.node), ComputeOptions()), objective, minima


@pytest.mark.parametrize("rule", [*SENSIBLE, *SENSELESS], ids=str)
@pytest.mark.parametrize("seed", [2, 5])
def test_no_rule_proves_what_is_false(rule: BranchingRule, seed: int) -> None:
    """The certified bounds stay below the minima that enumeration finds, and something is open."""
    dual, objective, _ = problem(seed, -0.01)
    found = branch_and_bound(dual, objective, kd.Branching(batch=4, rule=rule), deadline=kd.Deadline.after(3.0))
    assert bool((found.lower <= -0.01 + 1e-9).all())
    assert found.open > 0


@pytest.mark.parametrize("rule", SENSIBLE, ids=str)
@pytest.mark.parametrize("seed", [1, 2])
def test_rules_that_split_prove_what_is_true(rule: BranchingRule, seed: int) -> None:
    dual, objective, _ = problem(seed, 0.05)
    found = branch_and_bound(dual, objective, kd.Branching(batch=4, rule=rule))
    assert bool(((found.lower > 0) & (found.lower <= 0.05 + 1e-9)).all())
    assert found.open == 0


@pytest.mark.parametrize("rule", SENSELESS, ids=str)
def test_rules_that_do_not_split_keep_the_bounds_of_the_root(rule: BranchingRule) -> None:
    dual, objective, _ = problem(2, 0.05)
    found = branch_and_bound(dual, objective, kd.Branching(batch=4, rule=rule), DualAscent(5))
    assert bool((found.lower >= found.first - 1e-12).all())
    assert bool((found.lower <= 0.05 + 1e-9).all())


def test_a_rule_is_an_option_by_name_or_object() -> None:
    assert kd.Branching(rule=Constant(1.0)).rule == Constant(1.0)
    with pytest.raises(kd.InputError, match=r"^rule: 'best' is not one of babsr, intercept"):
        kd.Branching(rule="best")
    with pytest.raises(kd.InputError, match=r"^rule: input should be text, not 3"):
        kd.Branching(rule=3)  # type: ignore[arg-type]
    with pytest.raises(kd.InputError, match=r"^score: input should be a number, not 'x'"):
        Constant("x")  # type: ignore[arg-type]


def test_scores_of_another_shape_are_named() -> None:
    @dataclass(frozen=True)
    class Flat(BranchingRule):
        def scores(self, candidates: SplitCandidates) -> Tensor:
            return candidates.relaxation_losses[:, 0]

    dual, objective, _ = problem(2, -0.01)
    with pytest.raises(kd.InputError, match=r"branching rule Flat: scores of shape \(9, \d\) are expected, not \(9,\)"):
        branch_and_bound(dual, objective, kd.Branching(rule=Flat()))


# The open set ---------------------------------------------------------------------------------------------------------


def test_what_is_taken_counts_until_its_parts_do() -> None:
    open_set = OpenSet(["root"])
    (root,) = open_set.roots
    assert open_set.lower() == [-math.inf]
    open_set.replace(root, [(-3.0, "a"), (-1.0, "b")], [2.0])
    assert open_set.lower() == [-3.0]
    (taken,) = open_set.take()
    assert taken.item == "a"
    assert (len(open_set), open_set.waiting, open_set.least, open_set.lower()) == (2, 1, -3.0, [-3.0])
    open_set.replace(taken, [], [0.5])
    assert open_set.lower() == [-1.0]
    (taken,) = open_set.take(7)
    open_set.keep(taken, -0.5)
    assert (len(open_set), open_set.waiting, open_set.lower()) == (1, 0, [-0.5])
    assert [each.item for each in open_set] == ["b"]


def test_a_subproblem_is_never_replaced_by_nothing_and_only_once() -> None:
    open_set = OpenSet([0, 1])
    with pytest.raises(ValueError, match="nothing"):
        open_set.replace(open_set.roots[0], [])
    open_set.replace(open_set.roots[0], [(1.0, 2)])
    for again in (lambda: open_set.replace(open_set.roots[0], [(1.0, 2)]), lambda: open_set.keep(open_set.roots[0], 1)):
        with pytest.raises(ValueError, match="not taken"):
            again()
    assert open_set.lower() == [1.0, -math.inf]


def test_bounds_of_parts_are_never_below_their_own_or_nan() -> None:
    open_set = OpenSet([0])
    open_set.replace(open_set.roots[0], [(-2.0, 1)])
    (taken,) = open_set.take()
    open_set.replace(taken, [(math.nan, 2), (-5.0, 3), (-1.0, 4)], [math.nan])
    assert sorted(each.bound for each in open_set) == [-2.0, -2.0, -1.0]
    assert open_set.lower() == [-2.0]


def test_the_latest_or_the_worst_comes_first() -> None:
    parts = [(-1.0, "a"), (-3.0, "b"), (-2.0, "c")]
    for best_first, order in ((True, ["b", "c", "a"]), (False, ["a", "b", "c"])):
        open_set = OpenSet(["root"], best_first)
        open_set.replace(open_set.roots[0], parts)
        assert [each.item for each in open_set.take(3)] == order
    open_set = OpenSet(["root"], best_first=False)
    open_set.replace(open_set.roots[0], parts)
    assert [each.item for each in open_set.take(2)] == ["b", "c"]
    assert open_set.lower() == [-3.0]
