"""The steps of bounding: vertices of groups, DeepPoly, steps of the dual, linear programs."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from conftest import Digits

import kreludomain as kd
from kreludomain.groups import Octahedra, octahedra, piece_vertices

GROUPS = 1000


def groups_of(digits: Digits, k: int) -> Octahedra:
    """A thousand octahedra of ``k`` neurons, again and again the same where the network has not so many."""
    abstraction = kd.abstract(digits.network, digits.region(0, 0.06), "deeppoly")
    grouping, found = kd.ByArea(k=k, partition_size=20, overlap=k - 1), []
    for node in digits.network.pre_activations[1:]:
        found += [octahedra(abstraction, node, same) for same in grouping.groups(abstraction, node)]
    lower, upper = (
        torch.cat([getattr(o, side) for o in found if o.groups.shape[1] == k]) for side in ("lower", "upper")
    )
    chosen = torch.arange(GROUPS) % len(lower)
    return Octahedra(torch.arange(GROUPS * k).view(-1, k), lower[chosen], upper[chosen])


@pytest.mark.parametrize("k", [2, 3])
def test_vertices_of_a_thousand_groups(benchmark: Any, dense: Digits, k: int) -> None:
    vertices = benchmark(piece_vertices, groups_of(dense, k))
    assert len(vertices) == GROUPS


@pytest.mark.parametrize("net", ["dense", "conv", "residual"])
def test_deeppoly(benchmark: Any, net: str, request: pytest.FixtureRequest) -> None:
    """Bounds of every layer of one image."""
    digits: Digits = request.getfixturevalue(net)
    benchmark(kd.bounds, digits.network, digits.region(0, 0.05), "deeppoly")


@pytest.mark.parametrize("net", ["dense", "conv"])
def test_a_hundred_steps_of_the_dual(benchmark: Any, net: str, request: pytest.FixtureRequest) -> None:
    """Nine margins over relaxations that are there; a second call than the first, so nothing is built."""
    digits: Digits = request.getfixturevalue(net)
    method = kd.KRelu(preset="fast", steps=100)
    abstraction = kd.abstract(digits.network, digits.region(0, 0.06), method)
    objective = digits.claim(0).objective(digits.network)
    abstraction.minimise(objective)
    benchmark.pedantic(abstraction.minimise, (objective,), rounds=10, warmup_rounds=1)


def test_linear_programs(benchmark: Any, dense: Digits) -> None:
    """Nine margins over triangles by HiGHS, building the program included."""

    def margins() -> kd.LowerBounds:
        abstraction = kd.abstract(dense.network, dense.region(0, 0.05), "lp")
        return abstraction.minimise(dense.claim(0).objective(dense.network))

    benchmark.pedantic(margins, rounds=5, warmup_rounds=1)
