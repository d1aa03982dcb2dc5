"""The contract of an attack, for every one: what it returns is a counterexample, in the time there is, and again."""

from __future__ import annotations

import time
from dataclasses import dataclass

import pytest
import torch
from networks import conv, dense, residual
from torch import Tensor

import kreludomain as kd
from kreludomain.attack import confirmed
from kreludomain.network import Runtime
from kreludomain.network.operators import Linear


@dataclass(frozen=True)
class RandomPoints(kd.Attack):
    """Random points of the region: an attack of a user's own."""

    count: int = 4000

    def search(self, query: kd.Query, runtime: Runtime, bounds: kd.LayerBounds | None = None) -> Tensor | None:
        region, claim = query.region, query.claim
        assert claim is not None
        points = region.sample(self.count, torch.Generator().manual_seed(0))
        for position in claim.broken(claim.margins(query.network(points))).nonzero()[:, 0].tolist():
            if query.deadline.passed:
                break
            found = confirmed(points[position : position + 1], query, runtime)
            if found is not None:
                return found
        return None


ATTACKS = [
    kd.PGDAttack(),
    kd.PGDAttack().quick(),
    kd.PGDAttack(rounds=0),
    kd.PGDAttack(descents=1, seed=3),
    RandomPoints(),
]
attacks = pytest.mark.parametrize("attack", ATTACKS, ids=str)
NETWORKS = {"dense": dense(4, 12, 12, 3, seed=4), "conv": conv(), "residual": residual()}
REGIONS = [("inf", None), ("1", None), ("2", (0.3, 0.7))]


def question(network: kd.Network, norm: str, clip: tuple[float, float] | None, share: float) -> kd.Query:
    """A claim that a row is above a threshold: so far from the least to the largest value at 4000 points."""
    middle = torch.full((1, *network.input.shape), 0.5, dtype=torch.float64)
    region = kd.ball(middle, 0.25 if norm == "inf" else 0.5, norm, clip).fit(network)
    row = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    values = network(region.sample(4000, torch.Generator().manual_seed(9))).flatten(1) @ row
    threshold = values.min() + share * (values.max() - values.min())
    return kd.Query(network, region, kd.claim(row[None], -threshold[None]))


@attacks
@pytest.mark.parametrize(("norm", "clip"), REGIONS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_what_is_found_is_a_counterexample_and_is_found_again(
    attack: kd.Attack, network: kd.Network, norm: str, clip: tuple[float, float] | None
) -> None:
    """A point in the region in the network's type, without tolerance, whose outputs in onnxruntime break the claim."""
    query, runtime = question(network, norm, clip, 0.4), Runtime(network)
    found = attack.search(query, runtime)
    assert found is not None
    assert query.claim is not None
    assert found.dtype == runtime.dtype
    assert found.shape == (1, *network.input.shape)
    assert bool(query.region.contains(found.double()).all())
    assert bool(query.claim.broken(query.claim.margins(runtime(found).double())).all())
    again = attack.search(query, Runtime(network))
    assert again is not None
    assert torch.equal(found, again)


@attacks
def test_nothing_is_found_where_the_claim_holds_or_nothing_is_confirmed(attack: kd.Attack) -> None:
    network = NETWORKS["dense"]
    true = question(network, "inf", None, -2.0)
    assert attack.search(true, Runtime(network)) is None
    false, silent = question(network, "inf", None, 0.4), dense(4, 12, 12, 3, seed=4)
    assert false.claim is not None
    other = kd.Network((*silent.nodes[:-1], raised(silent.output, 1e3)))
    assert attack.search(false, Runtime(other)) is None


def raised(node: kd.Node, by: float) -> kd.Node:
    """The node with the first output raised, so that a claim about it holds by far."""
    assert isinstance(node.operator, Linear)
    weight, bias = node.operator.tensors()["weight"], node.operator.tensors()["bias"]
    return kd.Node(
        node.name, type(node.operator)(weight, bias + torch.tensor([by, 0, 0]), node.operator.in_shape), node.inputs
    )


@attacks
def test_the_deadline_is_kept(attack: kd.Attack) -> None:
    network = dense(50, 300, 300, 10)
    region = kd.ball(torch.full((1, 50), 0.5), 0.1)
    query = kd.Query(network, region, kd.claim(torch.zeros(9, 10), torch.ones(9)), deadline=kd.Deadline.after(0.2))
    start = time.monotonic()
    assert attack.search(query, Runtime(network)) is None
    assert time.monotonic() - start < 15
    assert attack.search(query, Runtime(network)) is None  # it is over by now


@attacks
def test_certification_takes_an_attack_or_none(attack: kd.Attack) -> None:
    network = NETWORKS["dense"]
    query = question(network, "inf", None, 0.4)
    assert query.claim is not None
    for method in ("interval", kd.Complete(splitting=kd.InputSplitting(few_inputs=0), attack=attack)):
        found = kd.certify(network, query.region, query.claim, method, attack=attack)
        assert found.verdict == "falsified"
    assert kd.certify(network, query.region, query.claim, "interval", attack=False).verdict == "unknown"
    with pytest.raises(kd.InputError, match=r"^attack: input should be true or false, or an attack, not 'pgd'"):
        kd.certify(network, query.region, query.claim, "interval", attack="pgd")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ({"rounds": -1}, "rounds: -1"),
        ({"descents": 0}, "descents: 0"),
        ({"step_size": 0}, "step_size: 0"),
        ({"momentum": 1.0}, "momentum: 1.0"),
        ({"seed": "x"}, "seed: input should be a whole number, not 'x'"),
    ],
)
def test_options_out_of_range_are_named(options: dict[str, object], text: str) -> None:
    with pytest.raises(kd.InputError, match=f"^{text}"):
        kd.PGDAttack(**options)
