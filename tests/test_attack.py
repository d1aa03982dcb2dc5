"""The attack: what it returns is a counterexample, and it finds those that are there."""

from __future__ import annotations

import re
import time
from typing import Any

import numpy as np
import pytest
import torch
from networks import conv, dense, dense_module, residual
from torch import Tensor

import kreludomain as kd
from kreludomain.activations import Relu
from kreludomain.attack import PGDAttack, counterexample_text
from kreludomain.network import Network, Node, Runtime
from kreludomain.network.operators import Activation, Input, Linear


def attacked(
    network: Network,
    region: kd.Region,
    claim: kd.Claim,
    runtime: Runtime,
    deadline: kd.Deadline = kd.Deadline(),
    **options: Any,
) -> Tensor | None:
    return PGDAttack(**options).search(kd.Query(network, region, claim, deadline=deadline), runtime)


def middle(network: Network) -> Tensor:
    return torch.full((1, *network.input.shape), 0.5, dtype=torch.float64)


def is_counterexample(x: Tensor, network: Network, region: kd.Region, claim: kd.Claim) -> bool:
    """A point of the region in the network's type, without tolerance, whose outputs in onnxruntime break the claim."""
    inside, runtime = bool(region.contains(x.double()).all()), Runtime(network)
    return x.dtype == runtime.dtype and inside and not bool(claim.holds(claim.margins(runtime(x).double())))


def extreme(network: Network, region: kd.Region, row: Tensor) -> float:
    """The smallest value of a row of outputs among very many points, most of them on faces of the region."""
    generator = torch.Generator().manual_seed(9)
    unit = torch.rand((10_000, *region.shape), generator=generator, dtype=torch.float64)
    unit = torch.where(torch.rand(unit.shape, generator=generator) < 0.6, unit.round(), unit)
    x = region.project(region.lower + unit * (region.upper - region.lower))
    return float((network(x).flatten(1) @ row).min())


NETWORKS = {"dense": dense(4, 12, 12, 3, seed=4), "conv": conv(), "residual": residual()}
REGIONS = [("inf", None), ("inf", (0.45, 0.75)), ("1", None), ("2", (0.3, 0.7))]


@pytest.mark.parametrize(("norm", "clip"), REGIONS)
@pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)
def test_finds_what_is_nearly_the_worst(network: Network, norm: str, clip: tuple[float, float] | None) -> None:
    """A claim that fails only within a hundredth of its range of the smallest value that any of 10,000 points has."""
    region = kd.ball(middle(network), 0.25 if norm == "inf" else 0.5, norm, clip)
    row = torch.tensor([1.0, -1.0, 0.5], dtype=torch.float64)
    smallest, largest = extreme(network, region, row), -extreme(network, region, -row)
    claim = kd.claim(row[None], torch.tensor([-smallest - 0.01 * (largest - smallest)], dtype=torch.float64))
    found = attacked(network, region, claim, Runtime(network))
    assert found is not None
    assert is_counterexample(found, network, region, claim)


def test_every_row_of_a_clause_is_broken() -> None:
    """y = (x_0, x_1, ...): the rows of the one clause that can be broken need a corner each pulls away from."""
    network = Network(
        (Node("in", Input((3,))), Node("out", Linear(torch.eye(3, dtype=torch.float64), None, (3,)), ("in",)))
    )
    region = kd.box(torch.zeros(1, 3), torch.ones(1, 3))
    rows = torch.tensor([[1.0, 1, 0], [-1, 0, 1], [0, -1, -1], [1, 1, 1]], dtype=torch.float64)
    d = torch.tensor([-0.9, 0.75, 0.1, 0.1], dtype=torch.float64)  # x0 + x1 <= 0.9, x0 - x2 >= 0.75, x1 + x2 >= 0.1
    claim = kd.claim(rows, d, clause=torch.tensor([1, 1, 1, 0]))
    found = attacked(network, region, claim, Runtime(network))
    assert found is not None
    assert is_counterexample(found, network, region, claim)
    x = found[0].tolist()
    assert x[0] + x[1] <= 0.9 + 1e-6
    assert x[0] - x[2] >= 0.75 - 1e-6
    assert x[1] + x[2] >= 0.1 - 1e-6


def plateau(inputs: int) -> tuple[Network, kd.Region, kd.Claim]:
    """``y = ReLU(sum x - n + 0.3)`` is 0 in [0, 1]^n but for one corner, where it reaches 0.3; the claim: y < 0.1."""
    ones, one = torch.ones(1, inputs, dtype=torch.float64), torch.ones(1, 1, dtype=torch.float64)
    nodes = (
        Node("in", Input((inputs,))),
        Node("sum", Linear(ones, torch.tensor([0.3 - inputs], dtype=torch.float64), (inputs,)), ("in",)),
        Node("relu", Activation(Relu(), (1,)), ("sum",)),
        Node("out", Linear(one, None, (1,)), ("relu",)),
    )
    claim = kd.claim(torch.tensor([[-1.0]]), torch.tensor([0.1], dtype=torch.float64))
    return Network(nodes), kd.box(torch.zeros(1, inputs), ones), claim


@pytest.mark.parametrize("inputs", [3, 60])
def test_finds_a_corner_that_no_gradient_leads_to(inputs: int) -> None:
    network, region, claim = plateau(inputs)
    found = attacked(network, region, claim, Runtime(network))
    assert found is not None
    assert is_counterexample(found, network, region, claim)


def test_what_does_not_replay_is_followed_deeper() -> None:
    """onnxruntime runs a network whose margins are larger by 0.05: what breaks the claim in ours only is no answer."""
    network = dense(6, 10, 10, 2, seed=2)
    last = network.output
    assert isinstance(last.operator, Linear)
    assert last.operator.bias is not None
    row, region = torch.tensor([[1.0, 0.0]], dtype=torch.float64), kd.ball(middle(network), 0.3)
    shifted = Linear(last.operator.weight, last.operator.bias + torch.tensor([0.05, 0.0]), last.operator.in_shape)
    other = Network((*network.nodes[:-1], Node(last.name, shifted, last.inputs)))
    claim = kd.claim(row, torch.tensor([-extreme(network, region, row[0]) - 0.06], dtype=torch.float64))
    found = attacked(network, region, claim, Runtime(other))
    assert found is not None
    assert is_counterexample(found, other, region, claim)


def test_claims_that_hold_have_no_counterexample() -> None:
    network, region = dense(3, 6, 2, seed=1), kd.ball(torch.zeros(1, 3), 0.5)
    network = Network((*network.nodes, Node("last", Activation(Relu(), (2,)), (network.output.name,))))
    zero = torch.zeros(2, dtype=torch.float64)
    non_strict = kd.claim(
        torch.eye(2), zero, non_strict=torch.tensor([True, True])
    )  # a ReLU is not below 0, though it is at 0
    assert attacked(network, region, non_strict, Runtime(network)) is None


def test_points_between_float32_numbers_are_not_returned_to_a_strict_query() -> None:
    """The region holds no float32 number, so nothing can be confirmed inside; otherwise the nearest number is."""
    network = kd.from_torch(dense_module(1, 4, 1).float(), (1,))
    (number,) = torch.nextafter(torch.tensor([0.1]), torch.tensor([1.0])).double()
    region = kd.box((number + 1e-10).reshape(1, 1), (number + 2e-10).reshape(1, 1))
    claim = kd.claim(torch.zeros(1, 1), torch.tensor([-1.0]))
    runtime = Runtime(network)
    assert PGDAttack().search(kd.Query(network, region, claim, strict=True), runtime) is None
    found = attacked(network, region, claim, runtime)
    assert found is not None
    assert found.double().item() == number.item()


def test_equal_seeds_give_equal_points() -> None:
    network, region, claim = plateau(60)
    first, again = (attacked(network, region, claim, Runtime(network), seed=3) for _ in range(2))
    assert first is not None
    assert again is not None
    assert torch.equal(first, again)


def test_a_deadline_ends_the_search() -> None:
    network = dense(50, 300, 300, 10)
    region = kd.ball(middle(network), 0.1)
    claim = kd.claim(torch.zeros(9, 10), torch.ones(9))
    start = time.monotonic()
    found = attacked(network, region, claim, Runtime(network), rounds=10**6, deadline=kd.Deadline.after(0.5))
    assert found is None
    assert time.monotonic() - start < 5  # about 0.5 on an idle core


def test_the_competitions_format() -> None:
    network = conv()
    region = kd.ball(middle(network), 0.3)
    x = region.rounded(region.sample(1, torch.Generator().manual_seed(0)))
    x.flatten()[:3] = torch.tensor([1e-7, -0.0, 1 / 3])
    lines = counterexample_text(x, Runtime(network)).splitlines()
    assert lines[0] == "sat"
    assert lines[1].startswith("((X_0 ")
    assert lines[-1].endswith("))")
    pairs = re.findall(r"^\(?\(([XY])_(\d+) (\S+?)\)\)?$", "\n".join(lines[1:]), flags=re.MULTILINE)
    assert len(pairs) == len(lines) - 1 == 2 * 6 * 6 + 3
    assert [f"{kind}_{i}" for kind, i, _ in pairs] == [f"X_{i}" for i in range(72)] + ["Y_0", "Y_1", "Y_2"]
    values = torch.tensor([float(np.float64(value)) for _, _, value in pairs], dtype=torch.float64)
    assert torch.equal(values[:72], x.flatten().double())
    assert torch.equal(values[72:], Runtime(network)(x).flatten().double())
    assert torch.equal(torch.tensor([np.float32(value) for _, _, value in pairs]).double(), values)
