"""Joint relaxations: groups, octahedra, vertices of pieces and hulls, on ordinary and on degenerate groups."""

from __future__ import annotations

import dataclasses
import itertools
import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import dense
from scipy.optimize import linprog
from torch import Tensor

import kreludomain as kd
from kreludomain.groups import (
    ByArea,
    Octahedra,
    check_groups,
    directions,
    implied_by_box,
    joint_hull,
    lifted,
    octahedra,
    piece_vertices,
    relax_jointly,
    sparse_cover,
)


def random_octahedra(k: int, count: int, seed: int, integer: bool = False, inputs: int = 4) -> tuple[Octahedra, Tensor]:
    """Octahedra of ``count`` groups of k affine neurons over a box, and samples ``(N, count, k)`` of the neurons.

    Bounds are exact, so the octahedra are as tight as they can be; ``integer`` weights make many of them degenerate.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (count, k, inputs)
    weights = torch.randn(shape, generator=generator, dtype=torch.float64)
    bias = torch.randn(shape[:2], generator=generator, dtype=torch.float64) * 0.3
    if integer:
        weights, bias = weights.round(), bias.round()
    combined = torch.einsum("dk,gki->gdi", directions(k), weights)
    middle, radius = bias @ directions(k).T, combined.abs().sum(2)
    corners = torch.tensor(list(itertools.product((-1.0, 0.0, 1.0), repeat=inputs)), dtype=torch.float64)
    inner = torch.rand(400, inputs, generator=generator, dtype=torch.float64) * 2 - 1
    samples = torch.einsum("gki,ni->ngk", weights, torch.cat([corners, inner])) + bias
    return Octahedra(torch.arange(count * k).reshape(count, k), middle - radius, middle + radius), samples


def brute_force_vertices(lower: Tensor, upper: Tensor, k: int) -> Tensor:
    """Feasible meeting points of k independent planes of an octahedron and the coordinate planes, one group."""
    d = directions(k)
    planes = [(row, float(b)) for row, low, high in zip(d, lower, upper, strict=True) for b in (low, high)]
    planes += [(row, 0.0) for row in torch.eye(k, dtype=torch.float64)]
    found = []
    for chosen in itertools.combinations(planes, k):
        normals = torch.stack([normal for normal, _ in chosen])
        if abs(float(torch.linalg.det(normals))) < 1e-9:
            continue
        point = torch.linalg.solve(normals, torch.tensor([b for _, b in chosen], dtype=torch.float64))
        if ((d @ point >= lower - 1e-9) & (d @ point <= upper + 1e-9)).all():
            found.append(point)
    return torch.stack(found)


def distances(a: Tensor, b: Tensor) -> Tensor:
    """Largest difference of any coordinate between each point of ``a`` and each of ``b``."""
    return (a[:, None] - b[None]).abs().amax(2)


# ---- groups ---------------------------------------------------------------------------------------------------------


@given(st.integers(1, 14), st.integers(1, 4), st.integers(0, 3))
@settings(max_examples=60, deadline=None)
def test_cover_reaches_everything_and_keeps_the_overlap(count: int, k: int, overlap: int) -> None:
    overlap = min(overlap, max(k, 2) - 1)
    groups = sparse_cover(count, k, overlap)
    assert set(itertools.chain(*groups)) == set(range(count))
    assert max(map(len, groups)) <= k
    assert all(len(set(a) & set(b)) <= overlap for a, b in itertools.combinations(groups, 2))


def test_by_area_takes_unstable_neurons_in_order_of_area() -> None:
    network = dense(4, 30, 3, seed=2)
    region = kd.ball(torch.zeros(1, 4), 1.0)
    abstraction = kd.DeepPoly().abstract(kd.Query(network, region))
    name = network.pre_activations[0]
    b = abstraction.bounds[name]
    area = (b.lower * b.upper)[0]
    groups = ByArea(k=3, partition_size=6, overlap=1).groups(abstraction, name)
    members = torch.cat([g.flatten() for g in groups]).unique()
    assert set(members.tolist()) == set(b.unstable[0].nonzero()[:, 0].tolist())
    ranked = area.argsort(stable=True).tolist()
    for group in itertools.chain(*[g.tolist() for g in groups]):
        partitions = {ranked.index(member) // 6 for member in group}
        assert len(partitions) == 1


def test_groups_that_are_none_are_errors() -> None:
    for wrong in (torch.tensor([[0, 0]]), torch.tensor([[0, 9]]), torch.tensor([0, 1]), torch.tensor([[0.0, 1.0]])):
        with pytest.raises(kd.InputError, match="grouping of 'layer'"):
            check_groups([wrong], 5, "layer")


# ---- octahedra ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_directions_are_all_up_to_sign(k: int) -> None:
    d = directions(k)
    both = torch.cat([d, -d])
    assert len(both.unique(dim=0)) == len(both) == 3**k - 1
    torch.testing.assert_close(d[:k], torch.eye(k, dtype=torch.float64))


@pytest.mark.parametrize("k", [2, 3])
def test_octahedra_hold_what_the_network_computes(k: int) -> None:
    network = dense(5, 12, 12, 3, seed=4)
    region = kd.ball(torch.full((1, 5), 0.2), 0.4)
    abstraction = kd.DeepPoly().abstract(kd.Query(network, region))
    name = network.pre_activations[1]
    groups = torch.tensor(list(itertools.combinations(range(6), k)))
    found = octahedra(abstraction, name, groups)
    values = network.values(region.sample(20_000, torch.Generator().manual_seed(0)))[name]
    assert found.contains(values[:, groups], tolerance=1e-9).all()
    box = implied_by_box(groups, found.lower[:, :k], found.upper[:, :k])
    assert (found.upper - found.lower <= box.upper - box.lower + 1e-12).all()
    assert (found.upper - found.lower < box.upper - box.lower - 1e-3).any(), "joint directions gain something here"
    one_by_one = [octahedra(abstraction, name, group[None]) for group in groups]
    torch.testing.assert_close(torch.cat([o.lower for o in one_by_one]), found.lower)


# ---- vertices -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("integer", [False, True])
@pytest.mark.parametrize("k", [1, 2, 3])
def test_vertices_are_those_of_brute_force(k: int, integer: bool) -> None:
    o, _ = random_octahedra(k, 3, seed=k, integer=integer)
    for vertices, lower, upper in zip(piece_vertices(o), o.lower, o.upper, strict=True):
        expected = brute_force_vertices(lower, upper, k)
        distance = distances(expected, vertices)
        assert distance.amin(1).max() < 1e-7, "none is missing"
        assert distance.amin(0).max() < 1e-7, "none is added"


@given(st.integers(0, 10_000), st.integers(1, 3), st.booleans())
@settings(max_examples=25, deadline=None)
def test_every_point_is_a_convex_combination_of_lifted_vertices(seed: int, k: int, integer: bool) -> None:
    """min_v (a . ReLU(v) - s . v) bounds a . ReLU(x) - s . x for all a, s and all x that occur: what every user relies
    on."""
    o, samples = random_octahedra(k, 4, seed=seed, integer=integer, inputs=3)
    points = lifted(piece_vertices(o))
    functional = torch.randn(64, 2 * k, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    at_vertices, at_samples = points @ functional.T, lifted(samples) @ functional.T
    assert (at_samples >= at_vertices.amin(1) - 1e-7).all()


def test_batches_do_not_change_vertices() -> None:
    o, _ = random_octahedra(3, 30, seed=3)
    whole, small = piece_vertices(o), piece_vertices(o, memory_mb=1)
    assert whole.shape[1] == small.shape[1]
    torch.testing.assert_close(whole, small, rtol=0, atol=1e-12)


def test_empty_octahedra_fall_back_to_the_box() -> None:
    groups = torch.tensor([[0, 1]])
    box = implied_by_box(groups, torch.tensor([[-1.0, -1.0]]).double(), torch.tensor([[1.0, 1.0]]).double())
    upper = box.upper.clone()
    upper[0, 2] = -5.0  # contradicts the box
    vertices = piece_vertices(Octahedra(groups, box.lower, upper))
    assert distances(piece_vertices(box)[0], vertices[0]).amin(1).max() < 1e-7


@pytest.mark.parametrize(("k", "count"), [(3, 6), (4, 3), (5, 1)])
@pytest.mark.parametrize("integer", [False, True])
def test_linear_functions_attain_their_minima_on_each_piece_at_its_vertices(k: int, count: int, integer: bool) -> None:
    """Against linear programs: a vertex that is missing is one that some function has its minimum at."""
    o, _ = random_octahedra(k, count, seed=40 + k, integer=integer, inputs=k + 1)
    d, rng = directions(k).numpy(), np.random.default_rng(k)
    sides = np.vstack([d, -d])
    for vertices, lower, upper in zip(piece_vertices(o).numpy(), o.lower.numpy(), o.upper.numpy(), strict=True):
        for signs in itertools.islice(itertools.product((1.0, -1.0), repeat=k), 0, None, 2 if k == 5 else 1):
            sign = np.array(signs)
            inside = vertices[(vertices * sign >= 0).all(1)]
            ranges = [(0, None) if s > 0 else (None, 0) for s in signs]
            for functional in rng.normal(size=(3, k)):
                found = linprog(functional, sides, np.concatenate([upper, -lower]), bounds=ranges)
                if found.status == 2:  # the octahedron has no such piece
                    continue
                assert found.fun >= (inside @ functional).min() - 1e-9, "none is missing"
                assert found.fun <= (inside @ functional).min() + 1e-6, "none is far outside"


@pytest.mark.parametrize("k", [1, 2, 3, 4])
def test_a_box_has_the_vertices_of_its_pieces_only(k: int) -> None:
    """Bounds of sums that the neurons' own imply touch the box at its edges, and are to cut off nothing there."""
    low = -torch.rand(20, k, generator=torch.Generator().manual_seed(k), dtype=torch.float64) - 0.1
    box = implied_by_box(torch.arange(20 * k).view(20, k), low, 1.0 + low.flip(0).abs())
    for vertices, lower, upper in zip(piece_vertices(box), low, 1.0 + low.flip(0).abs(), strict=True):
        ends = torch.stack([lower, torch.zeros_like(lower), upper], dim=1)
        expected = torch.cartesian_prod(*ends).view(-1, k)
        assert len(vertices.unique(dim=0)) == len(expected) == 3**k
        assert distances(expected, vertices).amin(1).max() < 1e-7


@pytest.mark.parametrize("exponent", range(-14, -7))
@pytest.mark.parametrize("integer", [False, True])
def test_planes_that_nearly_meet(integer: bool, exponent: int) -> None:
    """Bounds moved a little, by less and by more than any tolerance: nothing that can occur is cut off."""
    o, samples = random_octahedra(3, 40, seed=exponent + 20, integer=integer, inputs=2)
    generator = torch.Generator().manual_seed(exponent + 20)
    moved = [10.0**exponent * torch.rand(o.lower.shape, generator=generator, dtype=torch.float64) for _ in range(2)]
    points = lifted(piece_vertices(Octahedra(o.groups, o.lower - moved[0], o.upper + moved[1])))
    functional = torch.randn(300, 6, generator=generator, dtype=torch.float64)
    assert (lifted(samples) @ functional.T >= (points @ functional.T).amin(1) - 1e-13).all()


# ---- hulls ----------------------------------------------------------------------------------------------------------


def check_hull(o: Octahedra, samples: Tensor) -> list[bool]:
    exact = []
    for position, vertices in enumerate(piece_vertices(o)):
        hull = joint_hull(vertices)
        assert hull.contains(lifted(vertices)).all(), "holds at all vertices, without tolerance"
        assert hull.contains(lifted(samples[:, position]), tolerance=1e-8).all(), "holds at what can occur"
        weights = torch.distributions.Dirichlet(torch.full((len(vertices),), 0.1).double()).sample((200,))
        assert hull.contains(weights @ lifted(vertices), tolerance=1e-8).all(), "holds on the whole hull"
        exact.append(hull.exact)
    return exact


@pytest.mark.parametrize("k", [1, 2, 3])
def test_hulls_of_ordinary_groups(k: int) -> None:
    exact = check_hull(*random_octahedra(k, 10, seed=k))
    assert sum(exact) >= 9


@pytest.mark.parametrize("k", [1, 2, 3])
def test_hulls_of_integer_weights(k: int) -> None:
    check_hull(*random_octahedra(k, 20, seed=10 + k, integer=True))


@pytest.mark.parametrize("k", [2, 3])
def test_the_hull_of_a_box_is_the_product_of_triangles(k: int) -> None:
    box = implied_by_box(torch.arange(k)[None], torch.full((1, k), -1.0).double(), torch.full((1, k), 2.0).double())
    hull = joint_hull(piece_vertices(box)[0])
    assert hull.exact
    assert len(hull.offsets) == 3 * k


DEGENERATE = {
    "duplicated neurons": [[-1.0, 2.0], [-1.0, 2.0]],
    "bound exactly zero": [[0.0, 1.0], [-1.0, 1.0]],
    "nearly stable": [[-1.0, 1e-9], [-1e-8, 1.0]],
    "a single point": [[0.5, 0.5], [-0.25, -0.25]],
    "flat": [[-1.0, 1.0], [0.25, 0.25]],
    "tiny": [[-1e-9, 1e-9], [-1e-9, 2e-9]],
    "very different sizes": [[-1e6, 1e6], [-1e-3, 1e-3]],
}


@pytest.mark.parametrize("bounds", DEGENERATE.values(), ids=DEGENERATE.keys())
def test_degenerate_boxes(bounds: list[list[float]]) -> None:
    low, high = torch.tensor(bounds, dtype=torch.float64).T
    o = implied_by_box(torch.tensor([[0, 1]]), low[None], high[None])
    unit = torch.rand(2000, 1, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    check_hull(o, low + unit * (high - low))


def test_parallel_and_opposite_neurons() -> None:
    """x2 = x1 and x3 = -x1: the octahedron is a segment, the joint relaxation the two pieces of a line."""
    t = torch.linspace(-1, 2, 301, dtype=torch.float64)
    samples = torch.stack([t, t, -t], dim=1)[:, None]
    values = samples[:, 0] @ directions(3).T
    o = Octahedra(torch.tensor([[0, 1, 2]]), values.amin(0)[None], values.amax(0)[None])
    check_hull(o, samples)
    vertices = piece_vertices(o)[0]
    ends = torch.tensor([[-1.0, -1.0, 1.0], [0.0, 0.0, 0.0], [2.0, 2.0, -2.0]], dtype=torch.float64)
    assert distances(vertices, ends).amin(1).max() < 1e-7


@pytest.mark.parametrize("k", [2, 3])
def test_a_million_samples_of_degenerate_networks(k: int) -> None:
    """Small integer weights, four inputs, more neurons than inputs, sums on the boundary: none is cut off."""
    for seed in range(2):
        network = dense(4, 8, 8, 3, seed=seed, integer=True)
        region = kd.ball(torch.full((1, 4), 0.5), 0.5)
        abstraction = kd.DeepPoly().abstract(kd.Query(network, region))
        generator = torch.Generator().manual_seed(seed)
        corners = torch.tensor(list(itertools.product((0.0, 0.5, 1.0), repeat=4)), dtype=torch.float64)
        values = network.values(torch.cat([corners, region.sample(500_000, generator)]))
        for name in network.pre_activations:
            for joint in relax_jointly(abstraction, name, ByArea(k=k, partition_size=8, overlap=k - 1)):
                points = lifted(joint.vertices)
                for group, lifted_vertices, vertices in zip(joint.groups, points, joint.vertices, strict=True):
                    occurring = lifted(values[name][:, group])
                    functional = torch.randn(4, points.shape[2], generator=generator, dtype=torch.float64)
                    bound = (lifted_vertices @ functional.T).amin(0)
                    assert (occurring @ functional.T >= bound - 1e-7).all()
                    if k == 2:
                        assert joint_hull(vertices).contains(occurring, tolerance=1e-7).all()


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_bounds_that_are_not_finite_are_no_bounds(bad: float) -> None:
    """A direction without a finite bound keeps what the box implies; a box without one is refused."""
    whole = implied_by_box(torch.tensor([[0, 1, 2]]), -torch.ones(1, 3).double(), torch.ones(1, 3).double())
    lower = whole.lower.clone()
    lower[0, 5] = bad
    spoiled = dataclasses.replace(whole, lower=lower)
    torch.testing.assert_close(piece_vertices(spoiled), piece_vertices(whole))
    lower[0, 0] = bad
    with pytest.raises(ValueError, match="not finite"):
        piece_vertices(dataclasses.replace(whole, lower=lower))


def test_an_empty_octahedron_far_away_gets_its_box() -> None:
    """Bounds that contradict each other by far say nothing about how finely the box's vertices are told apart."""
    whole = implied_by_box(torch.tensor([[0, 1]]), -torch.ones(1, 2).double(), torch.ones(1, 2).double())
    far = dataclasses.replace(whole, lower=whole.lower.clone().index_fill_(1, torch.tensor([2]), 1e30))
    assert len(piece_vertices(far)[0].unique(dim=0)) == len(piece_vertices(whole)[0].unique(dim=0))
