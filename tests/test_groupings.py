"""What every grouping promises: groups of distinct unstable neurons, of at most ``k``, that keep the overlap."""

from __future__ import annotations

import itertools
from typing import Any

import pytest
import torch
from networks import conv, dense, residual

import kreludomain as kd
from kreludomain.groups import GROUPINGS, NoGroups, check_groups

NETWORKS = {
    "dense": dense(4, 30, 20, 3, seed=2),
    "convolution": conv(),
    "residual": residual(),
    "fewer neurons than k": dense(3, 2, 2, 2, seed=1),
}
#: ``k``, ``partition_size`` and ``overlap``.
SIZES = [(1, 20, 1), (2, 6, 1), (3, 20, 1), (3, 8, 0), (4, 10, 2), (3, 3, 1)]

every_grouping = pytest.mark.parametrize("kind", [*GROUPINGS.values(), NoGroups])
every_network = pytest.mark.parametrize("name", NETWORKS)


def abstraction_of(name: str, radius: float = 0.3) -> kd.Abstraction:
    network = NETWORKS[name]
    centre = torch.full((1, *network.input.shape), 0.4, dtype=torch.float64)
    return kd.abstract(network, kd.ball(centre, radius), "deeppoly")


def groups_of(grouping: kd.Grouping, abstraction: kd.Abstraction, node: str) -> list[tuple[int, ...]]:
    found = check_groups(grouping.groups(abstraction, node), abstraction.network.size(node), node)
    assert len({same.shape[1] for same in found}) == len(found), "one tensor a group size"
    return [tuple(group) for same in found for group in same.tolist()]


@every_grouping
@every_network
@pytest.mark.parametrize(("k", "partition_size", "overlap"), SIZES)
def test_groups_are_of_unstable_neurons_and_keep_size_and_overlap(
    kind: type[kd.Grouping], name: str, k: int, partition_size: int, overlap: int
) -> None:
    abstraction, grouping = abstraction_of(name), kind(k, partition_size, overlap)
    for node in abstraction.network.pre_activations:
        unstable = set(abstraction.bounds[node][0].kinked.flatten().nonzero()[:, 0].tolist())
        groups = groups_of(grouping, abstraction, node)
        assert set(itertools.chain(*groups)) <= unstable
        assert all(1 <= len(group) <= k for group in groups)
        assert len({frozenset(group) for group in groups}) == len(groups), "no group twice"
        if k > 1:
            assert all(len(set(a) & set(b)) <= overlap for a, b in itertools.combinations(groups, 2))


@every_grouping
@every_network
def test_the_same_question_gets_the_same_groups(kind: type[kd.Grouping], name: str) -> None:
    abstraction = abstraction_of(name)
    for node in abstraction.network.pre_activations:
        assert groups_of(kind(), abstraction, node) == groups_of(kind(), abstraction, node)


@every_grouping
def test_layers_of_stable_neurons_have_no_groups(kind: type[kd.Grouping]) -> None:
    abstraction = abstraction_of("dense", radius=1e-9)
    for node in abstraction.network.pre_activations:
        assert not abstraction.bounds[node].kinked.any()
        assert groups_of(kind(), abstraction, node) == []


@pytest.mark.parametrize("kind", GROUPINGS.values())
@every_network
def test_neurons_of_a_layer_with_enough_of_them_are_in_groups_of_k(kind: type[kd.Grouping], name: str) -> None:
    abstraction = abstraction_of(name)
    for node in abstraction.network.pre_activations:
        unstable = int(abstraction.bounds[node].kinked.sum())
        if unstable:
            assert max(map(len, groups_of(kind(k=3), abstraction, node))) == min(3, unstable)


@every_grouping
@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"k": 0}, "grouping: k = 0, partition_size = 20, overlap = 1"),
        ({"k": 4, "partition_size": 3}, "grouping: k = 4, partition_size = 3"),
        ({"overlap": 3}, "grouping: k = 3, partition_size = 20, overlap = 3"),
        ({"overlap": -1}, "grouping: k = 3, partition_size = 20, overlap = -1"),
    ],
)
def test_options_that_make_no_groups(kind: type[kd.Grouping], options: dict[str, Any], said: str) -> None:
    with pytest.raises(kd.InputError) as caught:
        kind(**options)
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize("method", [kd.KRelu, kd.KReluLP])
def test_a_method_takes_groupings_and_nothing_else(method: Any) -> None:
    assert method(grouping=NoGroups(k=5)).group_size == 5
    with pytest.raises(kd.InputError, match=r"^grouping: "):
        method(grouping=lambda abstraction, node: [])
