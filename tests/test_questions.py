"""Questions: what each claim says, against its definition; what is found about it, against enumeration."""

from __future__ import annotations

import itertools
import re
from fractions import Fraction
from typing import Any

import pytest
import torch
from exact import exact_merits, exact_slopes
from networks import dense, dense_module, residual
from pydantic import ValidationError
from torch import Tensor, nn

import kreludomain as kd
from kreludomain.domain.slopes import Slope
from kreludomain.network import Runtime
from kreludomain.options import explain
from kreludomain.property.names import Names
from kreludomain.property.questions import decision_threshold, predict
from kreludomain.run.config.questions import parse_question, question_item

INF = float("inf")


def outputs(count: int, size: int, seed: int = 0) -> Tensor:
    """Outputs from -2..2, so that ties occur."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-2, 3, (count, size), generator=generator).double()


def holds(claim: kd.Claim, y: Tensor) -> list[bool]:
    """Whether the claim is true at outputs; a claim about numbers is true or broken, never both."""
    margins = claim.margins(y)
    assert torch.equal(claim.holds(margins), ~claim.broken(margins))
    return claim.holds(margins).tolist()


# What claims say ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_the_label_is_among_the_k_largest(k: int) -> None:
    y = outputs(300, 5)
    for label in range(5):
        # A tie with another output counts against the label, whatever order a program would sort them in.
        as_large = (y >= y[:, label : label + 1]).sum(1) - 1
        assert holds(kd.top_k(label, k, 5), y) == (as_large < k).tolist()


def test_top_1_is_robustness() -> None:
    y = outputs(100, 4)
    assert holds(kd.top_k(2, 1, 4), y) == holds(kd.robustness(2, 4), y)


def test_targets_and_thresholds_and_intervals_are_what_they_say() -> None:
    y = outputs(200, 4)
    assert holds(kd.targeted(1, [3, 0, 1], 4), y) == ((y[:, 1] > y[:, 3]) & (y[:, 1] > y[:, 0])).tolist()
    assert holds(kd.between(-1, 2, output=2, outputs=4), y) == ((y[:, 2] > -1) & (y[:, 2] < 2)).tolist()
    assert holds(kd.between(below=0, output=0, outputs=4), y) == (y[:, 0] < 0).tolist()
    one = y[:, :1]
    assert holds(kd.robustness(1, 1, threshold=1.0), one) == (one[:, 0] > 1).tolist()
    for label in (0, -1):
        assert holds(kd.robustness(label, 1), one) == (one[:, 0] < 0).tolist()


def test_within_holds_at_its_ends() -> None:
    y = outputs(200, 3)
    target, delta = [0.0, 1.0, -1.0], [1.0, 0.0, 2.0]
    close = (y - torch.tensor(target).double()).abs() <= torch.tensor(delta).double()
    assert holds(kd.within(target, delta), y) == close.all(1).tolist()


def test_within_is_rounded_to_the_stronger_claim() -> None:
    """0.1 + 0.2 is rounded up in float64: the sum above 0.3 is not within reach of the claim."""
    for target, delta in ((0.1, 0.2), (0.3, 0.1), (1e9, 0.1), (-0.7, 0.1)):
        claim = kd.within(target, delta)
        low, high = (Fraction(float(d)) for d in claim.d)
        assert low <= Fraction(delta) - Fraction(target)
        assert high <= Fraction(delta) + Fraction(target)
        assert float(high) == pytest.approx(delta + target)


def test_clauses_that_need_several_rows_are_disjunctions_of_fewer() -> None:
    """After some rows are proved, the disjunctions that are left say the same of the others."""
    generator = torch.Generator().manual_seed(1)
    claim = kd.claim(torch.eye(7), clause=torch.tensor([0, 0, 0, 0, 1, 1, 1]), needed=torch.tensor([3, 2]))
    for _ in range(40):
        proved = torch.rand(7, generator=generator) < 0.3
        lower = torch.where(proved, 1.0, -1.0).double()
        margins = torch.randn(50, 7, generator=generator, dtype=torch.float64)
        margins = torch.where(proved, margins.abs() + 0.1, margins)
        if bool(claim.proved(lower).all()):
            with pytest.raises(kd.InputError, match="every clause is proved"):
                claim.disjunctions(lower, 1000)
            continue
        left = claim.disjunctions(lower, 1000)
        assert left is not None
        assert holds(left, margins) == holds(claim, margins)
        expected = torch.stack([margins[:, :4].sort(1).values[:, 1], margins[:, 4:].sort(1).values[:, 1]], 1)
        assert torch.equal(claim.clause_margins(margins), expected)
        assert torch.equal(claim.select(torch.tensor([1])).clause_margins(margins[:, 4:]), expected[:, 1:])
    assert claim.disjunctions(torch.full((7,), -1.0), 11) is None  # 6 clauses of 2 rows, 3 of 2


# What is found about them -------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def classifier() -> kd.Network:
    return dense(2, 6, 5, 4, seed=3)


X = torch.tensor([0.3, 0.4], dtype=torch.float64)


@pytest.fixture(scope="module")
def ranks(classifier: kd.Network) -> list[tuple[float, int, int, float]]:
    """Radii, labels and ``k``, and how far the label is from leaving the ``k`` largest outputs somewhere there."""
    order, found = classifier(X[None])[0].argsort(descending=True).tolist(), []
    for epsilon, k in ((0.05, 2), (0.4, 3), (0.8, 2)):
        every = kd.top_k(order[k - 1], k, 4).disjunctions(torch.full((3,), -INF), 100)
        assert every is not None
        merit = exact_merits(classifier, kd.ball(X, epsilon).fit(classifier), every).min()
        found.append((epsilon, order[k - 1], k, float(merit)))
    assert min(merit for *_, merit in found) < -0.01
    assert max(merit for *_, merit in found) > 0.01
    return found


@pytest.mark.parametrize("method", ["deeppoly", "krelu", "complete"])
def test_verdicts_on_top_k_are_those_of_enumeration(
    classifier: kd.Network, ranks: list[tuple[float, int, int, float]], method: str
) -> None:
    for epsilon, label, k, merit in ranks:
        found = kd.certify(classifier, kd.ball(X, epsilon), kd.top_k(label, k, 4), method, timeout_s=20)
        if merit > 0 and (method == "complete" or epsilon < 0.1):
            assert found.verdict == kd.Verdict.VERIFIED
        elif merit > 0:
            assert found.verdict in (kd.Verdict.VERIFIED, kd.Verdict.UNKNOWN)
        else:
            assert found.verdict == kd.Verdict.FALSIFIED
            y = Runtime(classifier)(found.counterexample[None]).double()
            assert int((y >= y[:, label]).sum()) > k


def test_top_k_of_many_classes_is_as_many_rows_as_robustness() -> None:
    network = dense(2, 6, 40, seed=1)
    x = torch.tensor([0.1, 0.2], dtype=torch.float64)
    order = network(x[None])[0].argsort(descending=True).tolist()
    claim = kd.top_k(order[2], 20, 40)
    assert len(claim.C) == 39
    found = kd.certify(network, kd.ball(x, 0.001), claim, "deeppoly")
    assert found.verdict == kd.Verdict.VERIFIED
    assert float(found.lower_bounds.min()) < 0  # two outputs are larger than the label's
    found = kd.certify(network, kd.ball(x, 0.5), kd.top_k(order[19], 20, 40), "complete", attack=False)
    assert found.verdict == kd.Verdict.UNKNOWN
    assert "too many ways" in found.notes[-1]


def test_a_value_stays_within_delta_of_its_target() -> None:
    network = dense(2, 6, 1, seed=2)
    x = torch.tensor([0.2, -0.1], dtype=torch.float64)
    region, value = kd.ball(x, 0.3), float(network(x[None]))
    merits = exact_merits(network, region.fit(network), kd.within(value, 0.0))
    away = -float(merits.min())  # how far the output goes from its value at x
    for factor, verdict in ((1.01, kd.Verdict.VERIFIED), (0.99, kd.Verdict.FALSIFIED)):
        assert kd.certify(network, region, kd.within(value, factor * away), "complete").verdict == verdict


# Monotone -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("seed", "epsilon"), [(0, 0.1), (2, 0.3), (5, 0.5)])
def test_verdicts_on_monotonicity_are_those_of_enumeration(seed: int, epsilon: float) -> None:
    network = dense(2, 5, 4, 2, seed=seed)
    region = kd.ball(torch.tensor([0.2, -0.3], dtype=torch.float64), epsilon)
    slopes = exact_slopes(network, region.fit(network))
    for feature, (direction, sign) in itertools.product((0, 1), (("increasing", 1.0), ("decreasing", -1.0))):
        row = sign * torch.tensor([1.0, -1.0], dtype=torch.float64)
        least = float((row @ slopes)[:, feature].min())
        claim = kd.monotone(feature, direction, output=0, minus=1, outputs=2)  # type: ignore[arg-type]
        for method in ("deeppoly", "complete"):
            found = kd.certify(network, region, claim, method, timeout_s=20)
            assert float(found.lower_bounds[0]) <= least + 1e-9
            if found.verdict == kd.Verdict.VERIFIED:
                assert least >= -1e-12
            elif found.verdict == kd.Verdict.FALSIFIED:
                assert least < 0
                smaller, larger = found.counterexample.double()
                apart = (larger - smaller).nonzero()[:, 0].tolist()
                assert apart == [feature]
                assert larger[feature] > smaller[feature]
                assert bool(region.fit(network).contains(found.counterexample.double()).all())
                y = Runtime(network)(found.counterexample).double() @ row
                assert y[1] < y[0]
            else:
                assert method == "deeppoly" or abs(least) < 1e-3


def test_a_slope_of_zero_is_no_negative_slope() -> None:
    """Weights that are not negative: flat where all neurons are off, and not below zero by a rounding error there."""
    module = dense_module(3, 12, 12, 1, seed=4)
    for layer in module[::2]:
        layer.weight.data.abs_()
        layer.bias.data -= 0.7
    module[0].weight.data[:, 1] *= -1
    network = kd.from_torch(module, (3,))
    region = kd.ball(torch.zeros(3, dtype=torch.float64), 1.0)
    for feature, direction in ((0, "increasing"), (1, "decreasing"), (2, "increasing")):
        found = kd.certify(network, region, kd.monotone(feature, direction), "interval")  # type: ignore[arg-type]
        assert found.verdict == kd.Verdict.VERIFIED
        assert float(found.lower_bounds[0]) == 0.0
    assert kd.certify(network, region, kd.monotone((0, 1)), "interval").verdict == kd.Verdict.FALSIFIED
    # What is flat everywhere is monotone either way, and float32's rounding makes no counterexample of it.
    flat = kd.ball(torch.tensor([-5.0, 5.0, -5.0], dtype=torch.float64), 0.1)
    assert kd.certify(network, flat, kd.monotone(0, "decreasing"), "interval").verdict == kd.Verdict.VERIFIED


@pytest.mark.parametrize("make", [residual, lambda: dense(4, 9, 7, 3, seed=5, integer=True)])
def test_bounds_of_slopes_hold_at_random_points(make: Any) -> None:
    network = make()
    region = kd.ball(torch.zeros(network.input.shape, dtype=torch.float64), 0.5).fit(network)
    points = region.sample(200, torch.Generator().manual_seed(0))
    for feature in (0, network.size(network.input.name) - 1):
        for row in torch.eye(3, dtype=torch.float64)[:2]:
            slope = Slope(network, feature, row)
            bounds = kd.bounds(network, region, "deeppoly")
            signs = torch.cat(
                [
                    ((bounds[n].lower >= 0).int() - (bounds[n].upper < 0).int()).flatten(1)
                    for n in network.pre_activations
                ],
                dim=1,
            )
            lower, _ = slope.lower(signs)
            assert float(lower) <= float(slope.at(points).min())
            # With all signs known, the bound is the slope.
            values = network.values(points[:1])
            known = torch.cat([2 * (values[n] > 0).int().flatten(1) - 1 for n in network.pre_activations], dim=1)
            assert float(slope.lower(known)[0]) == pytest.approx(float(slope.at(points[:1])), abs=1e-10)


def test_a_slope_that_underflows_proves_nothing() -> None:
    """1e-170 times 1e-170 is 0 in float64; the slope is negative all the same."""
    module = dense_module(1, 1, 1)
    for layer, weight in zip(module[::2], (1e-170, -1e-170), strict=True):
        layer.weight.data.fill_(weight)
        layer.bias.data.fill_(1.0)
    network = kd.from_torch(module, (1,))
    found = kd.certify(network, kd.ball(torch.zeros(1, dtype=torch.float64), 1.0), kd.monotone(0), "deeppoly")
    assert found.verdict == kd.Verdict.UNKNOWN


def test_a_last_sigmoid_keeps_the_order() -> None:
    module = nn.Sequential(*dense_module(2, 6, 1, seed=1), nn.Sigmoid())
    network, region = kd.from_torch(module, (2,)), kd.ball(torch.zeros(2, dtype=torch.float64), 0.05)
    logits = kd.from_torch(module[:-1], (2,))
    for feature in (0, 1):
        claim = kd.monotone(feature)
        assert kd.certify(network, region, claim).verdict == kd.certify(logits, region, claim).verdict


# One output ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("sigmoid", [False, True])
def test_one_output_is_two_classes(sigmoid: bool) -> None:
    module = dense_module(2, 6, 1, seed=1)
    module[-1].bias.data -= module(torch.zeros(1, 2, dtype=torch.float64))[0]
    network = kd.from_torch(nn.Sequential(*module, nn.Sigmoid()) if sigmoid else module, (2,))
    assert decision_threshold(network) == (0.5 if sigmoid else 0.0)
    x = torch.randn(20, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    classes = (module(x)[:, 0] > 0).long()
    assert predict(network, x).tolist() == classes.tolist()
    assert len(classes.unique()) == 2
    question = kd.Robust()
    few = torch.cat([(classes == label).nonzero()[:2, 0] for label in (0, 1)])
    for point, label in zip(x[few], classes[few].tolist(), strict=True):
        assert question.mismatch(network, point, label) is None
        assert question.mismatch(network, point, 1 - label) == f"classified as {label}, the label is {1 - label}"
        found = kd.certify(network, kd.ball(point, 1e-4), question.claim(network, label), "deeppoly")
        assert found.verdict == kd.Verdict.VERIFIED
        wrong = kd.certify(network, kd.ball(point, 1e-4), question.claim(network, 1 - label), "deeppoly")
        assert wrong.verdict == kd.Verdict.FALSIFIED


# In YAML ------------------------------------------------------------------------------------------------------------

FORMS: list[tuple[Any, kd.Question]] = [
    ("robust", kd.Robust()),
    ({"robust": 0.3}, kd.Robust(0.3)),
    ({"top_k": 3}, kd.TopK(3)),
    ({"targeted": 7}, kd.Targeted(7)),
    ({"targeted": [7, 9]}, kd.Targeted((7, 9))),
    ({"within": 0.5}, kd.Within(0.5)),
    ({"within": [0.5, 1]}, kd.Within((0.5, 1.0))),
    ({"between": {"above": 1, "output": 2}}, kd.Between(above=1.0, output=2)),
    ({"monotone": "age"}, kd.Monotone("age")),
    ({"monotone": {"feature": 3, "direction": "decreasing"}}, kd.Monotone(3, "decreasing")),
    ({"C": [[1, -1]], "d": [0.5]}, kd.Linear(((1.0, -1.0),), (0.5,))),
    ({"per_label": {0: "robust", 1: {"top_k": 2}}}, kd.PerLabel({0: kd.Robust(), 1: kd.TopK(2)})),
]


@pytest.mark.parametrize(("item", "question"), FORMS)
def test_yaml_and_python_say_the_same(item: Any, question: kd.Question) -> None:
    assert parse_question(item) == question
    assert parse_question(question_item(question)) == question
    assert question.words()


@pytest.mark.parametrize(
    ("item", "message"),
    [
        ("topk", "'topk' is not one of robust, top_k, targeted, within, between, .*monotone, per_label"),
        ({"topk": 3}, "'topk' is not one of robust"),
        ("top_k", r"top_k: give \{top_k: K\}"),
        ({"top_k": 0}, "top_k: 0 is not a number from 1 up"),
        ({"top_k": 2.5}, "top_k: input should be a whole number, not 2.5"),
        ({"top_k": "3"}, "top_k: input should be a whole number, not '3'"),
        ({"top_k": {"K": 3}}, "top_k.K: unknown key; known are k"),
        ({"targeted": []}, "targeted: should have at least one item"),
        ({"targeted": 1.5}, "targeted: input should be a whole number, text or a list, not 1.5"),
        ({"within": -1}, "within: -1.* is not a number from 0 up"),
        ({"within": "small"}, "within: input should be a number or a list, not 'small'"),
        ("between", "between: give above, below, or both"),
        ({"between": {"above": 2, "below": 1}}, "between: no number is above 2 and below 1"),
        ({"between": {"lower": 2}}, "between.lower: unknown key; known are above, below, output"),
        ({"monotone": {"direction": "increasing"}}, "monotone.feature: missing"),
        (
            {"monotone": {"feature": 1, "direction": "up"}},
            "monotone.direction: 'up' is not 'increasing' or",
        ),
        ({"monotone": {"feature": 1, "tolerance": -1}}, "monotone.tolerance: -1.0 is not a number from 0 up"),
        ({"per_label": ["robust"]}, "per_label: should be a mapping of labels to claims"),
        ({"per_label": {0: {"top_k": "a"}}}, "per_label.0.top_k: input should be a whole number"),
        ({"robust": None, "top_k": 3}, "should be a mapping of one key"),
        ({"C": [[1, 2], [3]]}, r"C: rows of different lengths \(1, 2\)"),
        ({"d": [1]}, "C: missing"),
        (["robust"], r"\['robust'\] is not one of robust"),
        (True, "True is not one of robust"),
    ],
)
def test_mistakes_in_a_claim_are_one_line_that_names_the_key(item: Any, message: str) -> None:
    with pytest.raises(ValidationError) as found:
        parse_question(item)
    text = explain(found.value)
    assert "\n" not in text
    assert re.match(message, text), text


def test_names_of_the_data_become_positions() -> None:
    names = Names(features=("age", "income"), classes={"setosa": 0, "virginica": 2})
    assert kd.Monotone("income").named(names) == kd.Monotone((1,))
    assert kd.Targeted(("virginica", 1)).named(names) == kd.Targeted((2, 1))
    both = kd.PerLabel({"setosa": kd.Targeted("virginica"), 2: kd.Robust()})
    assert both.named(names) == kd.PerLabel({0: kd.Targeted((2,)), 2: kd.Robust()})
    with pytest.raises(kd.InputError, match="there is no class 'versicolour'; there are setosa, virginica"):
        kd.Targeted("versicolour").named(names)
    with pytest.raises(kd.InputError, match="there is no feature 'Age'; there are age, income; did you mean 'age'"):
        kd.Monotone("Age").named(names)


def test_what_a_network_cannot_be_asked_is_one_line(classifier: kd.Network) -> None:
    one = dense(2, 4, 1)
    mistakes = [
        (kd.Robust(), one, 2, "label 2: a network of one output tells two classes apart, 0 and 1"),
        (kd.Robust(0.5), classifier, 1, "threshold: the network has 4 outputs, whose largest is the class"),
        (kd.Robust(), classifier, None, "the sample has no label"),
        (kd.Robust(), classifier, 4, r"label 4 is not one of the 4 classes 0..3"),
        (kd.TopK(4), classifier, 1, "top_k: 4 is not a number from 1 to 3"),
        (kd.TopK(1), one, 1, "top_k: the network has one output"),
        (kd.Targeted(5), classifier, 1, "target 5 is not one of the 4 classes 0..3"),
        (kd.Within(1.0), one, 1, "within: the sample has no target"),
        (kd.Between(above=1.0), classifier, 1, "output: missing; the network has 4 outputs, 0 to 3"),
        (kd.Between(above=1.0, output=4), classifier, 1, "output: 4 is not one of the 4 outputs"),
        (kd.Monotone(2), one, None, "monotone: feature 2 is not one of the 2 inputs, 0 to 1"),
        (kd.Monotone(0), classifier, None, "output: missing"),
        (kd.PerLabel({0: kd.Robust()}), classifier, 1, "per_label: there is no claim for label 1, only for 0"),
    ]
    for question, network, label, message in mistakes:
        with pytest.raises(kd.InputError, match=message):
            question.claim(network, label)
