"""Certified radii: brackets around the exact one, what is known is not asked again, time limits, regions."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

import pytest
import torch
from exact import exact_minima
from networks import dense

import kreludomain as kd
from kreludomain.domain import DeepPoly
from kreludomain.network import Runtime
from kreludomain.verify.radii.bisection import next_epsilon

X = torch.tensor([0.3, -0.2], dtype=torch.float64)


@pytest.fixture(scope="module")
def network() -> kd.Network:
    return dense(2, 4, 4, 3, seed=4)


@pytest.fixture(scope="module")
def label(network: kd.Network) -> int:
    return int(network(X[None]).argmax())


@pytest.fixture(scope="module")
def exact(network: kd.Network, label: int) -> float:
    """The l_inf radius at which another class becomes as large, by enumeration of the linear pieces."""
    rows, low, high = kd.robustness(label, 3).C, 0.0, 0.5
    for _ in range(8):
        middle = (low + high) / 2
        holds = float(exact_minima(network, kd.ball(X, middle), rows).min()) > 0
        low, high = (middle, high) if holds else (low, middle)
    return (low + high) / 2


@pytest.mark.parametrize("method", ["interval", "deeppoly", "complete"])
def test_the_bracket_holds_the_exact_radius(network: kd.Network, label: int, exact: float, method: str) -> None:
    found = kd.radius(network, X, label, method)
    assert 0 < found.certified <= exact * 1.01
    assert exact * 0.99 <= found.attacked < 1.02 * exact
    if method == "complete":
        assert found.certified > 0.98 * exact
    assert found.reason == "narrowed to the tolerance of 0.01"
    proved = [trial.epsilon for trial in found.trials if trial.verdict == kd.Verdict.VERIFIED]
    assert max(proved) == found.certified
    again = kd.certify(network, kd.ball(X, found.certified), kd.robustness(label, 3), method)
    assert again.verdict == kd.Verdict.VERIFIED


@pytest.mark.parametrize("norm", ["1", "2", "inf"])
def test_the_attacked_radius_is_the_distance_of_a_counterexample_that_replays(
    network: kd.Network, label: int, norm: str
) -> None:
    found = kd.radius(network, X[None], label, "deeppoly", norm=norm, clip=(-1, 2))
    assert found.counterexample is not None
    point = found.counterexample
    distance = torch.linalg.vector_norm((point.double() - X), ord=float(norm))
    assert found.attacked == pytest.approx(float(distance), rel=1e-9)
    assert kd.ball(X[None], found.attacked, norm, (-1, 2)).contains(point.double()[None]).all()
    assert int(Runtime(network)(point[None]).argmax()) != label
    assert found.certified < found.attacked


def test_a_misclassified_input_has_radius_zero(network: kd.Network, label: int) -> None:
    found = kd.radius(network, X, (label + 1) % 3)
    assert (found.certified, found.attacked, found.trials) == (0.0, 0.0, ())
    assert found.verdict(0.0) == found.verdict(0.1) == kd.Verdict.FALSIFIED
    assert found.reason == "the claim fails in the smallest region already"


@dataclass(frozen=True)
class Recorded(kd.Method):
    """DeepPoly that proves nothing beyond a radius, and writes down the boxes and the bounds that it is given."""

    until: float = 0.2
    pause: float = 0.0
    asked: list[tuple[float, bool]] = field(default_factory=list)

    def abstract(self, query: kd.Query) -> kd.Abstraction:
        time.sleep(self.pause)
        radius = float((query.region.upper - query.region.lower).max() / 2)
        self.asked.append((round(radius, 6), bool(query.prior_bounds)))
        abstraction = DeepPoly().abstract(query)
        return (
            abstraction
            if radius <= self.until
            else Unproved(abstraction.network, abstraction.region, abstraction.bounds)
        )


class Unproved(kd.Abstraction):
    def minimise(self, objective: kd.Objective, deadline: kd.Deadline = kd.Deadline()) -> kd.LowerBounds:
        return kd.LowerBounds(torch.full((1, objective.count), -1.0, dtype=torch.float64))


def test_a_sweep_asks_only_what_does_not_follow() -> None:
    network, x = dense(2, 4, 2, seed=1), torch.zeros(2, dtype=torch.float64)
    claim = kd.claim(torch.zeros(1, 2), torch.ones(1))  # true everywhere: what is proved is up to the method
    method = Recorded(until=0.45)
    epsilons = [0.1 * step for step in range(1, 17)]
    found = kd.radius(network, x, claim, method, epsilons=epsilons, bisect=False, attack=False)
    assert found.certified == pytest.approx(0.4)
    assert len(method.asked) <= 5  # of 16: a binary search
    assert found.reason == "12 of 16 epsilons not decided"
    assert [found.verdict(epsilon) for epsilon in (0.1, 0.4, 0.5)] == ["verified", "verified", "unknown"]
    assert [known for _, known in method.asked] == [
        False,
        *[True] * (len(method.asked) - 1),
    ]  # bounds of larger regions


def test_a_counterexample_answers_every_larger_epsilon(network: kd.Network, label: int, exact: float) -> None:
    method = Recorded(until=exact / 3)
    epsilons = [exact * share for share in (0.1, 0.3, 0.9, 1.1, 2, 3, 4)]
    found = kd.radius(network, X, label, method, epsilons=epsilons, bisect=False)
    assert [found.verdict(epsilon) for epsilon in epsilons] == ["verified"] * 2 + ["unknown"] + ["falsified"] * 4
    assert all(radius < exact for radius, _ in method.asked)
    assert found.attacks <= 4
    both = kd.radius(network, X, label, method, epsilons=epsilons, attacked=found.attacked)
    assert both.certified == pytest.approx(exact / 3, rel=0.011)
    assert (both.attacks, both.attacked) == (0, found.attacked)
    alone = kd.radius(network, X, label, None)
    assert (alone.certified, alone.trials) == (0.0, ())
    assert exact * 0.99 < alone.attacked < exact * 1.02


def test_the_time_limit_is_kept_and_the_bracket_is_sound_by_then(network: kd.Network, label: int, exact: float) -> None:
    start = time.monotonic()
    found = kd.radius(network, X, label, Recorded(until=exact, pause=0.3), tolerance=1e-6, timeout_s=2.0)
    assert time.monotonic() - start < 3.5
    assert found.reason.startswith("time limit of 2 s; ")
    assert 0 < found.certified < exact * 1.01
    assert found.attacked >= exact * 0.99
    late = kd.radius(network, X, label, timeout_s=1e-9)
    assert (late.certified, late.attacked) == (0.0, float("inf"))
    assert late.reason.startswith("time limit of 1e-09 s; ")


def test_largest_ends_the_search_and_clipping_does(network: kd.Network, label: int, exact: float) -> None:
    found = kd.radius(network, X, label, "deeppoly", largest=exact / 10)
    assert found.certified == exact / 10
    assert found.reason.startswith("verified at the largest epsilon")
    always = kd.claim(torch.zeros(1, 3), torch.ones(1))
    clipped = kd.radius(network, X, always, "deeppoly", clip=(-1, 1))
    assert clipped.certified >= 1.3  # the whole square
    assert len(clipped.trials) < 20


def test_entries_have_scales_of_their_own_and_can_be_fixed(network: kd.Network, label: int) -> None:
    one = kd.radius(network, X, label, "deeppoly", scale=[1.0, 0.0])
    fixed = kd.radius(network, X, label, "deeppoly", fixed=[1], attack=False)
    mine = kd.radius(network, lambda epsilon: kd.ball(X, epsilon, fixed=[1]), label, "deeppoly", attack=False)
    assert one.certified == pytest.approx(fixed.certified, rel=0.02) == pytest.approx(mine.certified, rel=0.02)
    assert one.counterexample is not None
    assert float(one.counterexample[1]) == pytest.approx(-0.2, rel=1e-6)  # -0.2 is no number of float32
    half, whole = (kd.radius(network, X, label, "deeppoly", scale=scale, attack=False) for scale in (0.5, 1.0))
    assert half.certified == pytest.approx(2 * whole.certified, rel=0.03)


def test_what_does_not_fit_is_one_line(network: kd.Network) -> None:
    def refused(text: str, around: object = X, label: int = 0, **options: object) -> None:
        with pytest.raises(kd.InputError) as caught:
            kd.radius(network, around, label, **options)
        assert str(caught.value).startswith(text)

    refused("largest: 0 is not a number above 0", largest=0)
    refused("epsilons: 'x' is not a number or a fraction", epsilons=["x"])
    refused("tolerance: 1 is not a number between 0 and 1", tolerance=1)
    refused("label 7 is not one of the 3 classes", label=7)
    refused("around: epsilon 0 gives Tensor, a region is expected", lambda epsilon: X)
    label = int(network(X[None]).argmax())
    moves = "around: the region of epsilon 0 does not lie within that of"
    refused(moves, lambda epsilon: kd.ball(X + epsilon * 3, epsilon), label)


@pytest.mark.parametrize(
    "margin", [lambda e: 3 - 4 * e, lambda e: 1 - e - 2 * e * e, lambda e: 0.2 - max(e, 5 * e - 0.3)]
)
def test_margins_that_are_known_say_where_to_look(margin: Callable[[float], float]) -> None:
    """Bisection takes 7 calls from 0 and 2 to within a hundredth."""
    known, low, high, calls = {0.0: margin(0.0), 2.0: margin(2.0)}, 0.0, 2.0, 0
    while high - low > 0.01 * high:
        epsilon, calls = next_epsilon(known, low, high, 0.01), calls + 1
        assert low < epsilon < high
        known[epsilon] = margin(epsilon)
        low, high = (epsilon, high) if known[epsilon] > 0 else (low, epsilon)
    assert margin(low) > 0 >= margin(high)
    assert calls <= 5
