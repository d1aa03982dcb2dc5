"""Counterexamples where the interval of an input holds no number of the network's own type."""

from __future__ import annotations

from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from networks import dense_module

import kreludomain as kd
from kreludomain.network.operators import Input, Linear
from kreludomain.verify import Verdict

#: 0.1 lies between two float32 numbers; 0.125 is one.
BETWEEN = 0.1
OUTSIDE = float(np.float32(0.1))
NETWORK = kd.from_torch(dense_module(3, 10, 10, 2, seed=3).float(), (3,))
METHODS = ("deeppoly", "krelu-lp", "krelu", "complete")


def fixed(value: float) -> kd.Region:
    """Two inputs from 0 to 1, the last one fixed."""
    lower, upper = torch.tensor([[0.0, 0.0, value], [1.0, 1.0, value]], dtype=torch.float64)
    return kd.box(lower, upper)


def fails_somewhere(region: kd.Region) -> kd.Claim:
    """A claim about the outputs' difference that a part of the region breaks."""
    values = NETWORK(region.fit(NETWORK).sample(4000, torch.Generator().manual_seed(0)))
    difference = values[:, 1] - values[:, 0]
    return kd.claim(torch.tensor([[-1.0, 1.0]]), -difference.quantile(0.2)[None])


@pytest.mark.parametrize(
    ("lower", "upper", "none"),
    [
        (0.1, 0.1, True),
        (0.125, 0.125, False),
        (0.1, 0.1000001, False),
        (float(np.nextafter(OUTSIDE, 1)), 0.1000000015, True),  # both ends between the same two numbers
        (-OUTSIDE, -OUTSIDE, False),
        (1e39, 1e39, True),  # beyond the largest
        (1e-50, 1e-49, True),  # between zero and the smallest
        (0.0, 0.0, False),
    ],
)
def test_which_intervals_hold_no_float32_number(lower: float, upper: float, none: bool) -> None:
    region = kd.box(torch.tensor([[lower]], dtype=torch.float64), torch.tensor([[upper]], dtype=torch.float64))
    assert region.unrepresentable(torch.float32).item() is none
    assert region.unrepresentable(torch.float64).item() is False
    point = region.rounded(region.center)
    assert bool(region.contains(point.double())) is not none
    if none and bool(point.isfinite()):
        neighbours = [np.nextafter(np.float32(point.item()), np.float32(side)) for side in (-np.inf, np.inf)]
        distances = [min(abs(Fraction(float(v)) - Fraction(end)) for end in (lower, upper)) for v in neighbours]
        own = min(abs(Fraction(point.item()) - Fraction(end)) for end in (lower, upper))
        assert own <= max(distances), "one of the two numbers around the interval"
        assert bool(region.contains(region.represented(point)))
        assert not bool(region.contains(region.represented(torch.nextafter(point, torch.tensor(9.0)))))


@pytest.mark.parametrize("method", METHODS)
def test_a_feature_fixed_between_two_numbers_is_falsified_and_named(method: str) -> None:
    region = fixed(BETWEEN)
    claim = fails_somewhere(region)
    found = kd.certify(NETWORK, region, claim, method)
    assert found.verdict == Verdict.FALSIFIED
    assert found.counterexample is not None
    assert found.counterexample[2].item() == OUTSIDE
    assert bool(((found.counterexample[:2] >= 0) & (found.counterexample[:2] <= 1)).all())
    assert "input 2: no float32 number is inside, the nearest one is taken" in found.reason
    there = kd.certify(NETWORK, fixed(0.125), fails_somewhere(fixed(0.125)), method)
    assert there.reason == "counterexample confirmed by onnxruntime"


@pytest.mark.parametrize("method", METHODS)
def test_strict_takes_none_outside_and_does_not_search(method: str) -> None:
    region = fixed(BETWEEN)
    found = kd.certify(NETWORK, region, fails_somewhere(region), method, strict=True, timeout_s=3)
    assert found.verdict in (Verdict.UNKNOWN, Verdict.TIMEOUT)
    assert found.counterexample is None
    assert found.stages.get("attack", 0.0) < 0.01
    assert found.notes[0] == (
        "strict: no counterexample is looked for, since no float32 number is inside the region at input 2"
    )
    inside = kd.certify(NETWORK, fixed(0.125), fails_somewhere(fixed(0.125)), method, strict=True)
    assert inside.verdict == Verdict.FALSIFIED, "where there are numbers inside, strict changes nothing"


def test_the_nearest_number_never_contradicts_a_proof() -> None:
    """f(x) = x at 0.1: below 0.1 + 5e-10 is true there, and false at the nearest float32 number, 0.1 + 1.5e-9."""
    identity = kd.Network(
        (
            kd.Node("x", Input((1,))),
            kd.Node("y", Linear(torch.eye(1, dtype=torch.float64), None, (1,)), ("x",)),
        )
    )
    region = kd.ball(torch.tensor([BETWEEN], dtype=torch.float64), 0.0)
    for bound, verdict in ((BETWEEN + 5e-10, Verdict.VERIFIED), (BETWEEN - 5e-10, Verdict.FALSIFIED)):
        claim = kd.claim(-torch.eye(1), torch.tensor([bound], dtype=torch.float64))
        assert kd.certify(identity, region, claim, "interval").verdict == verdict
    true = kd.claim(-torch.eye(1), torch.tensor([BETWEEN + 5e-10], dtype=torch.float64))
    query = kd.Query(identity, region, true)
    runtime = kd.network.Runtime(identity)
    assert kd.PGDAttack().search(query, runtime) is None


@pytest.mark.parametrize("norm", ["1", "2"])
def test_a_ball_around_a_point_between_numbers(norm: str) -> None:
    """The radius is zero, and no entry of the middle is a float32 number."""
    middle = torch.tensor([0.1, 0.3, 0.7], dtype=torch.float64)
    values = NETWORK(middle[None])
    claim = kd.claim(torch.tensor([[1.0, -1.0]]) * (values[0, 1] - values[0, 0]).sign())
    found = kd.certify(NETWORK, kd.ball(middle, 0.0, norm), claim, "deeppoly")
    assert found.verdict == Verdict.FALSIFIED
    assert "inputs 0, 1, 2" in found.reason


def test_vnnlib_files_too(tmp_path: Path) -> None:
    """Both where a property is one of several, and where it relates outputs to inputs."""
    declared = "".join(f"(declare-const {n} Real)" for n in ("X_0", "X_1", "X_2", "Y_0", "Y_1"))
    inputs = "(assert (and (>= X_0 0) (<= X_0 1) (>= X_1 0) (<= X_1 1) (>= X_2 0.1) (<= X_2 0.1)))"
    for unsafe in ("(assert (or (and (>= Y_0 100)) (and (<= Y_0 100))))", "(assert (<= Y_0 (+ X_0 100)))"):
        path = tmp_path / "p.vnnlib"
        path.write_text(declared + inputs + unsafe)
        specification = kd.load_vnnlib(path, NETWORK)
        answer = kd.decide(NETWORK, specification, timeout_s=20)
        assert answer.verdict == Verdict.FALSIFIED
        assert "input 2: no float32" in answer.reason
        strict = kd.decide(NETWORK, specification, "deeppoly", timeout_s=20, strict=True)
        assert strict.verdict == Verdict.UNKNOWN
