"""Splitting the input box decides claims exactly as enumeration does, and never lets a violation pass."""

from __future__ import annotations

import time

import pytest
import torch
from exact import exact_merits
from networks import dense, residual
from torch import Tensor

import kreludomain as kd
from kreludomain.branching.inputs import InputSplitting, prove_by_input_splitting
from kreludomain.deadline import Deadline
from kreludomain.domain.batched_crown import RootRelaxation, batched_crown, neuron_count
from kreludomain.errors import InputError
from kreludomain.network import Runtime
from kreludomain.property import Box

#: Sizes of small networks with few enough unstable neurons for enumeration.
SIZES = [(2, 4, 3, 3), (3, 3, 2, 3)]
#: Clauses of four rows: all on their own, two of two, all in one.
CLAUSES = [None, [0, 1, 1, 0], [0, 0, 0, 0]]


def draw(*shape: int, seed: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def unit_box(inputs: int) -> Box:
    return kd.box(torch.full((1, inputs), -1.0).double(), torch.ones(1, inputs).double())  # type: ignore[return-value]


def stop_rule(claim: kd.Claim, worst: Tensor, margin: float) -> kd.Claim:
    """The claim with constants moved so that the least of every clause's largest row is ``margin``."""
    return kd.Claim(claim.C, claim.d - worst[claim.clauses] + margin, claim.clause, claim.non_strict)


@pytest.mark.parametrize("clauses", CLAUSES, ids=["conjunction", "mixed", "disjunction"])
@pytest.mark.parametrize("sizes", SIZES, ids=str)
def test_decides_as_enumeration_does(sizes: tuple[int, ...], clauses: list[int] | None) -> None:
    """Claims that hold by 1e-3 are proved, claims that fail by as little are refuted: a point, confirmed and inside."""
    network, region = dense(*sizes, seed=sum(sizes)), unit_box(sizes[0])
    runtime = Runtime(network)
    drawn = kd.claim(draw(4, 3, seed=1), draw(4, seed=2), None if clauses is None else torch.tensor(clauses))
    worst = exact_merits(network, region, drawn)
    holds = prove_by_input_splitting(kd.Query(network, region, stop_rule(drawn, worst, 1e-3)), runtime=runtime)
    assert holds.proved
    assert holds.left is None
    assert holds.counterexample is None
    failing = stop_rule(drawn, worst, 1e-3)
    failing = kd.Claim(failing.C, failing.d - 2e-3 * (failing.clauses == 0), failing.clause)
    found = prove_by_input_splitting(kd.Query(network, region, failing), runtime=runtime)
    assert found.counterexample is not None
    assert not found.proved
    assert found.counterexample.dtype == runtime.dtype
    assert bool(region.contains(found.counterexample.double()).all())
    assert bool(failing.broken(failing.margins(runtime(found.counterexample).double())).all())


@pytest.mark.parametrize("weak", [False, True])
def test_a_claim_that_is_zero_somewhere(weak: bool) -> None:
    """``|x| - |y|``-like maxima touch zero: a strict claim must not be proved; a weak one must not be refuted."""
    network = dense(2, 4, 3, 3, seed=12)
    region = unit_box(2)
    drawn = kd.claim(draw(2, 3, seed=3), None, torch.tensor([0, 0]), torch.tensor([weak, weak]))
    exact = stop_rule(drawn, exact_merits(network, region, drawn), 0.0)
    options = InputSplitting(most_open=2000, narrowest=1e-5)
    outcome = prove_by_input_splitting(kd.Query(network, region, exact, deadline=Deadline.after(20)), options)
    if weak:
        assert (
            outcome.counterexample is None
            or float(exact.clause_margins(exact.margins(network(outcome.counterexample.double()))).min()) < 1e-6
        )
    else:
        assert not outcome.proved


def test_what_is_left_holds_every_violation() -> None:
    """A search cut short says where counterexamples may be, and bounds the rows there from below."""
    network, region = dense(2, 4, 3, 3, seed=12), unit_box(2)
    drawn = kd.claim(draw(2, 3, seed=3), None, torch.tensor([0, 0]))
    points = region.sample(4000, torch.Generator().manual_seed(0))
    clause_margins = drawn.clause_margins(drawn.margins(network(points)))[:, 0]
    failing = kd.Claim(drawn.C, drawn.d - float(clause_margins.quantile(0.02)), drawn.clause)
    silent = Runtime(dense(2, 4, 3, 3, seed=12))
    options = InputSplitting(batch=4, narrowest=0.02)
    outcome = prove_by_input_splitting(kd.Query(network, region, failing), options, runtime=_unconvinced(silent))
    assert outcome.left is not None
    assert "narrow" in outcome.reason
    margins = failing.margins(network(points))
    bad = points[failing.broken(margins)]
    inside = ((bad[:, None] >= outcome.left.lower) & (bad[:, None] <= outcome.left.upper)).all(2).any(1)
    assert len(bad) > 10
    assert bool(inside.all())
    assert outcome.worst <= float(failing.clause_margins(margins).min())


def _unconvinced(runtime: Runtime) -> Runtime:
    """A runtime whose outputs break no claim: nothing that float64 finds is confirmed."""

    class Unconvinced(Runtime):
        def __init__(self) -> None:
            self.dtype = runtime.dtype

        def __call__(self, x: Tensor) -> Tensor:
            return torch.full_like(runtime(x), torch.nan)

    return Unconvinced()


def test_the_deadline_is_kept() -> None:
    network, region = dense(5, 50, 50, 50, 50, 3, seed=1), unit_box(5)
    claim = kd.claim(draw(2, 3, seed=1), torch.full((2,), 5.0).double())
    start = time.monotonic()
    query = kd.Query(network, region, claim, deadline=Deadline.after(0.3))
    outcome = prove_by_input_splitting(query, runtime=_unconvinced(Runtime(network)))
    assert time.monotonic() - start < 15
    assert outcome.left is not None
    assert outcome.reason == "time limit"
    assert not outcome.proved


@pytest.mark.parametrize("network", [dense(3, 8, 8, 8, 3, seed=5), residual()], ids=["dense", "residual"])
def test_forms_are_below_the_rows_at_every_point(network: kd.Network) -> None:
    """Over boxes and, with their signs, over halves of them; signs are those that occur."""
    shape = network.input.shape
    middle = draw(6, *shape, seed=4)
    region = kd.box(middle - 0.3, middle + 0.3)
    root = RootRelaxation.of(network, kd.box(region.lower.amin(0)[None], region.upper.amax(0)[None]))
    objective = kd.claim(draw(4, network.size(network.output.name), seed=6)).objective(network)
    signs = torch.zeros(6, neuron_count(network), dtype=torch.int8)
    for part in (region, kd.box(middle - 0.3, middle), kd.box(middle - 0.05, middle)):
        forms = batched_crown(network, part, signs, root)
        rows, losses = forms.scored_rows(objective)
        for _ in range(30):
            x = part.lower + torch.rand_like(part.lower) * (part.upper - part.lower)
            values = network.values(x)
            exact = objective.evaluate(values[objective.node])
            below = (rows.coefficients @ x.flatten(1)[:, :, None])[..., 0] + rows.constant
            assert bool((below <= exact + 1e-12).all())
            assert bool((rows.concretise(part) <= below + 1e-12).all())
            pre = torch.cat([values[name].flatten(1) for name in network.pre_activations], dim=1)
            assert not bool((pre * forms.signs < 0).any())
        assert bool((losses >= 0).all())
        assert bool((forms.signs[signs != 0] == signs[signs != 0]).all())
        signs = forms.signs
    assert bool((signs != 0).any())


def test_what_overflows_proves_nothing() -> None:
    network = dense(2, 4, 4, 2, seed=1)
    huge = kd.box(torch.full((1, 2), -1e300, dtype=torch.float64), torch.full((1, 2), 1e300, dtype=torch.float64))
    signs = torch.zeros(1, neuron_count(network), dtype=torch.int8)
    forms = batched_crown(network, huge, signs, RootRelaxation.of(network, huge))
    objective = kd.claim(1e300 * torch.eye(2, dtype=torch.float64), torch.ones(2)).objective(network)
    assert not bool((forms.rows(objective).concretise(huge) > 0).any())
    claim = kd.claim(1e300 * torch.eye(2, dtype=torch.float64), torch.ones(2))
    query = kd.Query(network, huge, claim, deadline=Deadline.after(2))
    outcome = prove_by_input_splitting(query, InputSplitting(most_open=50))
    assert not outcome.proved


def test_bad_input_is_named() -> None:
    network = dense(2, 4, 2, seed=1)
    with pytest.raises(InputError, match="one box"):
        prove_by_input_splitting(kd.Query(network, kd.ball(torch.zeros(1, 2), 0.1, norm=2), kd.robustness(0, 2)))
    with pytest.raises(InputError, match="batch"):
        InputSplitting(batch=0)
    with pytest.raises(InputError, match="lower_slope"):
        InputSplitting(lower_slope="steep")
