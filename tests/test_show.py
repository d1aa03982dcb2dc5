"""``kreludomain show``: circumscribed polygons, reachable sets in a plane, relaxations of two neurons, the command."""

from __future__ import annotations

import json
import re
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from networks import ZOO, dense, inputs
from test_cli import call, is_refused
from torch import nn

import kreludomain as kd
from kreludomain.analysis.reachable import (
    RELAXATIONS,
    NeuronPair,
    Plane,
    SupportBounds,
    area,
    circumscribe,
    linear_pieces,
    nesting_violations,
    reachable_set,
    relaxation_vertices,
    sampled_inputs,
    split,
    violations,
    volume,
)
from kreludomain.property import Region
from kreludomain.run.show.group import GroupStudy
from kreludomain.run.show.plane import PlaneStudy
from kreludomain.run.show.study import Show

ROOT = Path(__file__).resolve().parents[1]


def supports_of(points: np.ndarray) -> Any:
    """The support function of the hull of points."""
    return lambda directions: (points @ directions.T).max(0)


def first_two(network: kd.Network) -> Plane:
    """The plane of the first two outputs."""
    eye = torch.eye(network.size(network.output.name), dtype=torch.float64)
    return Plane.of(network, eye[0], eye[1])


def box_around(network: kd.Network, radius: float, seed: int = 5) -> Region:
    return kd.ball(inputs(network, 1, seed=seed, scale=0.5), radius)


def linear(rows: list[list[float]]) -> nn.Linear:
    """A linear layer without bias."""
    layer = nn.Linear(len(rows[0]), len(rows), bias=False, dtype=torch.float64)
    layer.weight.data = torch.tensor(rows, dtype=torch.float64)
    return layer


# Polygons -------------------------------------------------------------------------------------------------------------


@given(st.integers(3, 12), st.integers(0, 10_000))
@settings(max_examples=60, deadline=None)
def test_a_polygon_is_found_with_its_corners(count: int, seed: int) -> None:
    random = np.random.default_rng(seed)
    angles = np.sort(random.uniform(0, 2 * np.pi, count))
    corners = np.stack([3 * np.cos(angles), np.sin(angles)], axis=1) + 10 * random.normal(size=2)
    found = circumscribe(supports_of(corners), accuracy=1e-4)
    size = np.ptp(corners, axis=0).max()
    assert violations(found.vertices, corners).max() <= 1e-8 * size
    assert len(found.supports) <= 16 + 8 * count
    sharp = np.linalg.norm(corners[:, None] - found.vertices[None], axis=2).min(1)
    assert sharp.max() < 2e-2 * size  # as near as accuracy and the flattest corner allow
    assert found.area == pytest.approx(area(corners), abs=3e-4 * size**2)


def test_a_square_is_found_exactly() -> None:
    corners = np.array([[0.0, 0.3], [2.0, 1.0], [1.3, 3.0], [-0.7, 2.3]])
    found = circumscribe(supports_of(corners))
    assert found.area == pytest.approx(area(corners), rel=1e-9)
    assert found.gap < 1e-3 * 3
    assert np.linalg.norm(corners[:, None] - found.vertices[None], axis=2).min(1).max() < 1e-6


def test_a_round_set_is_left_by_no_more_than_the_accuracy() -> None:
    shape = np.diag([3.0, 0.5])
    found = circumscribe(lambda d: np.linalg.norm(d @ shape, axis=1), accuracy=1e-3)
    stretched = np.linalg.norm(found.vertices @ np.linalg.inv(shape), axis=1)
    assert stretched.min() >= 1 - 1e-9
    assert 0 < found.gap <= 1e-3 * 6.1
    assert np.pi * 1.5 <= found.area <= np.pi * 1.5 * 1.02


@given(st.integers(0, 10_000), st.integers(1, 40))
@settings(max_examples=40, deadline=None)
def test_however_early_it_ends_nothing_is_cut_off(seed: int, count: int) -> None:
    points = np.random.default_rng(seed).normal(size=(count, 2)) * [1.0, 1e-3] + [1e3, 0.0]
    found = circumscribe(supports_of(points), max_directions=16)
    assert len(found.supports) == 16
    assert violations(found.vertices, points).max() < 1e-6
    assert circumscribe(supports_of(points), stop=lambda: True).directions.shape == (16, 2)


@pytest.mark.parametrize("points", [[[2.0, -1.0]], [[0.0, 0.0]], [[0.0, 0.0], [1.0, 0.7]]])
def test_flat_sets_have_flat_polygons(points: list[list[float]]) -> None:
    shape = np.array(points)
    found = circumscribe(supports_of(shape))
    assert np.isfinite(found.vertices).all()
    assert found.area < 1e-3
    assert np.linalg.norm(shape[:, None] - found.vertices[None], axis=2).min(1).max() < 1e-3


def test_directions_that_matter_are_asked_exactly() -> None:
    wanted = np.array([[0.3, -0.4]])
    found = circumscribe(supports_of(np.eye(2)), initial=wanted, max_directions=17)
    assert np.abs(found.directions - wanted / 0.5).sum(1).min() < 1e-9


def test_a_set_without_bounds_is_refused() -> None:
    with pytest.raises(kd.InputError, match="not finite"):
        circumscribe(lambda d: np.full(len(d), np.inf))


def test_split_gives_both_sides() -> None:
    square = np.array([[0.0, 0.0], [2.0, 0.0], [2.0, 2.0], [0.0, 2.0]])
    below, above = split(square, square[:, 0] - 0.5)
    assert (area(below), area(above)) == pytest.approx((1.0, 3.0))
    untouched, nothing = split(square, square[:, 0] - 5)
    assert (area(untouched), len(nothing)) == (4.0, 0)


# Reachable sets -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", kd.METHODS)
@pytest.mark.parametrize("name", ZOO)
def test_what_occurs_lies_in_every_set(name: str, method: str) -> None:
    network = ZOO[name]()
    region, plane = box_around(network, 0.04 if name == "conv" else 0.15), first_two(network)
    around = circumscribe(SupportBounds(kd.abstract(network, region, method), plane), max_directions=16)
    found = reachable_set(network, region, plane, samples=400)
    occurs = np.vstack([found.points, found.hull])
    assert violations(around.vertices, occurs).max() <= 1e-9 * (1 + np.abs(found.hull).max())


@pytest.mark.parametrize("method", kd.METHODS)
def test_all_methods_are_exact_where_nothing_is_unstable(method: str) -> None:
    network = kd.from_torch(linear([[1.0, 0.5], [-0.3, 1.0]]), (2,))
    region, plane = kd.box(torch.tensor([-1.0, 2.0]), torch.tensor([1.0, 3.0])), first_two(network)
    found = circumscribe(SupportBounds(kd.abstract(network, region, method), plane))
    exact = reachable_set(network, region, plane, samples=2)
    assert len(exact.pieces) == 1
    assert found.area == pytest.approx(area(exact.hull), rel=1e-6)


def test_two_neurons_pass_the_barrier() -> None:
    """(relu(x1 + x2), relu(x1 - x2)) over [-1, 1]^2, by hand: all of y1, y2 >= 0, y1 + y2 <= 2, which is convex.

    Triangles allow y1 + y2 = 3: the square [0, 2]^2 without the corner beyond that."""
    network = kd.from_torch(nn.Sequential(linear([[1, 1], [1, -1]]), nn.ReLU(), linear([[1, 0], [0, 1]])), (2,))
    region, plane = kd.ball(torch.zeros(2), 1.0), first_two(network)
    chosen: list[tuple[str, dict[str, Any]]] = [("lp", {}), ("krelu-lp", {"k": 2})]
    areas = [circumscribe(SupportBounds(kd.abstract(network, region, m, **o), plane)).area for m, o in chosen]
    assert areas == pytest.approx([3.5, 2.0], rel=1e-6)
    assert area(reachable_set(network, region, plane).hull) == pytest.approx(2.0)


def test_methods_that_contain_each_other_have_polygons_that_do() -> None:
    network = dense(2, 10, 10, 2, seed=4)
    region, plane = box_around(network, 0.7), first_two(network)
    chosen: list[tuple[str, dict[str, Any]]] = [("deeppoly", {}), ("lp", {}), ("krelu-lp", {"k": 2})]
    found = [circumscribe(SupportBounds(kd.abstract(network, region, m, **o), plane), accuracy=1e-4) for m, o in chosen]
    polygons = [f.vertices for f in found] + [reachable_set(network, region, plane, samples=2).hull]
    gaps = [*(f.gap for f in found[1:]), 0.0]
    assert all(out <= gap + 1e-6 for out, gap in zip(nesting_violations(polygons), gaps, strict=True))
    areas = [area(p) for p in polygons]
    assert areas[0] > 1.05 * areas[1] > 1.05**2 * areas[2] > areas[3]
    assert nesting_violations(polygons[::-1])[0] > 0


def test_planes_of_inner_nodes_and_directions() -> None:
    network = dense(3, 6, 4, seed=1)
    region = box_around(network, 0.2)
    node = network.pre_activations[0]
    plane = Plane.of(network, torch.tensor([1.0, -1, 0, 0, 0, 0]), torch.tensor([0.0, 0, 2, 0, 0, 1]), node)
    x = region.fit(network).sample(50)
    value = network.values(x)[node]
    expected = torch.stack([value[:, 0] - value[:, 1], 2 * value[:, 2] + value[:, 5]], dim=1)
    assert plane.points(network, x) == pytest.approx(expected.numpy())
    bounded = SupportBounds(kd.abstract(network, region, "deeppoly"), plane)
    supports = bounded(np.array([[1.0, 0.0], [0.0, -1.0]]))
    assert supports[0] >= expected[:, 0].max()
    assert supports[1] >= -expected[:, 1].min()


def test_planes_that_are_none_are_refused() -> None:
    network = dense(3, 6, 4, seed=1)
    one = torch.tensor([1.0, 0.0, 0.0, 2.0])
    for x, y, node, message in (
        (one, -2 * one, None, "parallel or zero"),
        (one, one[:3], None, "a direction of 3 entries"),
        (one, one, "nowhere", "no node 'nowhere'"),
    ):
        with pytest.raises(kd.InputError, match=message):
            Plane.of(network, x, y, node)
    pair = kd.ball(inputs(network, 2), 0.1)
    with pytest.raises(kd.InputError, match="one region at a time"):
        SupportBounds(kd.abstract(network, pair, "deeppoly"), first_two(network))


# The reachable set itself ---------------------------------------------------------------------------------------------


def test_absolute_values_have_four_pieces() -> None:
    """(|x1|, |x2|) over [-1, 2] x [-1, 3]: the four quadrants, folded onto [0, 2] x [0, 3]."""
    both = linear([[1, 1, 0, 0], [0, 0, 1, 1]])
    network = kd.from_torch(nn.Sequential(linear([[1, 0], [-1, 0], [0, 1], [0, -1]]), nn.ReLU(), both), (2,))
    found = reachable_set(network, kd.box(torch.tensor([-1.0, -1.0]), torch.tensor([2.0, 3.0])), first_two(network))
    assert found.exact
    assert sorted(area(piece) for piece in found.pieces) == pytest.approx([1.0, 2.0, 3.0, 6.0])
    assert area(found.hull) == pytest.approx(6.0)


@pytest.mark.parametrize("integer", [False, True])
def test_pieces_cover_the_box_and_the_network_is_affine_on_each(integer: bool) -> None:
    network = dense(2, 8, 8, 3, seed=7, integer=integer)
    region = kd.box(torch.tensor([-1.0, -0.5]), torch.tensor([1.0, 2.0])).fit(network)
    pieces = linear_pieces(network, region)
    assert pieces is not None
    assert len(pieces) > 5
    assert sum(area(piece.numpy()) for piece in pieces) == pytest.approx(5.0)
    generator = torch.Generator().manual_seed(0)
    for piece in pieces:
        weights = torch.rand((20, len(piece)), generator=generator, dtype=torch.float64)
        weights = weights / weights.sum(1, keepdim=True)
        assert torch.allclose(network(weights @ piece), weights @ network(piece), atol=1e-7)
    plane = first_two(network)
    found = reachable_set(network, region, plane, samples=500)
    inside = np.min([violations(piece, found.points) for piece in found.pieces if area(piece) > 1e-9], axis=0)
    assert inside.max() < 1e-6


def test_two_inputs_that_vary_are_enough_and_too_many_pieces_are_not() -> None:
    network = dense(3, 6, 6, 2, seed=2)
    flat = kd.box(torch.tensor([-1.0, 0.3, -1.0]), torch.tensor([1.0, 0.3, 1.0])).fit(network)
    assert linear_pieces(network, flat) is not None
    assert linear_pieces(network, flat, max_pieces=2) is None
    assert linear_pieces(network, kd.ball(torch.zeros(3), 1.0).fit(network)) is None
    assert linear_pieces(network, kd.ball(torch.zeros(3), 1.0, norm=2).fit(network)) is None
    assert not reachable_set(network, kd.ball(torch.zeros(3), 1.0), first_two(network), samples=20).exact


@pytest.mark.parametrize("norm", ["inf", "1", "2"])
def test_sampled_inputs_are_inputs_of_the_region_and_reach_far(norm: str) -> None:
    network = dense(4, 8, 8, 3, seed=3)
    region = kd.ball(torch.full((4,), 0.4, dtype=torch.float64), 0.3, norm=norm, clip=(0.0, 1.0)).fit(network)
    plane = first_two(network)
    x = sampled_inputs(network, region, plane, 300)
    slack = 1e-12
    assert bool(((x >= region.lower - slack) & (x <= region.upper + slack)).all())
    assert bool((torch.linalg.vector_norm(x - 0.4, ord=float(norm), dim=1) <= 0.3 + slack).all())
    random = plane.points(network, region.sample(300))
    found = reachable_set(network, region, plane, samples=300)
    assert area(found.hull) > circumscribe(supports_of(random)).area


# Two neurons ----------------------------------------------------------------------------------------------------------


def test_volumes_of_the_textbook_pair() -> None:
    """x1, x2 and x1 + x2 in [-2, 2]; by hand: P has area 12, a zonotope's y a thickness of 1 each, and so on."""
    pair = NeuronPair.from_bounds([-2, -2], [2, 2], total=[-2, 2])
    found = {kind: volume(relaxation_vertices(pair, kind)) for kind in RELAXATIONS}
    assert found["interval"] == pytest.approx(48)
    assert found["zonotope"] == pytest.approx(12)
    # Triangles have thickness 1 - |x|/2 each: the integral of their product over P is 11/3.
    assert found["triangle"] == pytest.approx(11 / 3)
    assert found["joint"] == pytest.approx(8 / 3, rel=1e-6)
    highest = {kind: relaxation_vertices(pair, kind)[:, 2:].sum(1).max() for kind in RELAXATIONS}
    assert highest["triangle"] == pytest.approx(3)
    assert highest["joint"] == pytest.approx(2)


def test_over_a_box_nothing_is_gained() -> None:
    pair = NeuronPair.from_bounds([-1, -2], [3, 1])
    joint, triangle = (volume(relaxation_vertices(pair, kind)) for kind in ("joint", "triangle"))
    assert joint == pytest.approx(triangle, rel=1e-6)


@given(st.integers(0, 10_000))
@settings(max_examples=30, deadline=None)
def test_the_graph_lies_in_every_relaxation_and_the_joint_one_in_all(seed: int) -> None:
    random = np.random.default_rng(seed)
    low, high = -random.uniform(0.2, 2, 2), random.uniform(0.2, 2, 2)
    total = (random.uniform(0.3, 0.9) * low.sum(), random.uniform(0.3, 0.9) * high.sum())
    pair = NeuronPair.from_bounds(low.tolist(), high.tolist(), total=total)
    x = random.uniform(low, high, (500, 2))
    x = x[(x.sum(1) >= total[0]) & (x.sum(1) <= total[1])]
    graph, joint = np.hstack([x, np.maximum(x, 0)]), relaxation_vertices(pair, "joint")
    directions = random.normal(size=(200, 4))
    for kind in RELAXATIONS:
        reach = (relaxation_vertices(pair, kind) @ directions.T).max(0)
        assert (graph @ directions.T <= reach + 1e-7).all()
        assert (joint @ directions.T <= reach + 1e-7).all()
    assert sum(area(piece) for piece in pair.pieces()) == pytest.approx(area(pair.vertices), rel=1e-5)


def test_neurons_of_a_network_have_the_octahedron_of_the_method() -> None:
    network = dense(2, 6, 6, 2, seed=2)
    abstraction = kd.abstract(network, box_around(network, 0.8), "deeppoly")
    node = network.pre_activations[0]
    first, second = abstraction.bounds[node].unstable[0].nonzero()[:2, 0].tolist()
    pair = NeuronPair.from_abstraction(abstraction, node, first, second)
    x = network.values(abstraction.region.sample(500))[node][:, [first, second]]
    assert bool(pair.octahedron.contains(x[:, None], 1e-9).all())
    assert volume(relaxation_vertices(pair, "joint")) < volume(relaxation_vertices(pair, "triangle"))
    stable = (~abstraction.bounds[node].unstable[0]).nonzero()[:1, 0].tolist()
    for a, b, place, message in (
        (first, first, node, "two different ones"),
        (first, 6, node, "two different ones below 6"),
        (first, second, network.output.name, "feeds no ReLU"),
        (first, second, "nowhere", "no node 'nowhere'"),
        *((first, s, node, "0 should be between them") for s in stable),
    ):
        with pytest.raises(kd.InputError, match=message):
            NeuronPair.from_abstraction(abstraction, place, a, b)


def test_pairs_that_are_none_are_refused() -> None:
    for arguments, message in (
        (([-1, 1], [1, 2]), "neuron 2 has bounds 1, 2"),
        (([-1], [1]), "two lower and two upper"),
        (([-1, -1], [1, 1], [1, -1]), "a lower and a larger upper"),
        (([-1, -1], [1, 1], [3, 4]), "no interior"),
        (([-1, -1], [1, 1], [-1e-12, 1e-12]), "no interior"),
        (([-1, -1], [1, 1], [1.9, 2], [1.9, 2]), "no interior"),
    ):
        with pytest.raises(kd.InputError, match=message):
            NeuronPair.from_bounds(*arguments)
    with pytest.raises(kd.InputError, match="'magic' is not one of"):
        relaxation_vertices(NeuronPair.from_bounds([-1, -1], [1, 1]), "magic")


# The command ----------------------------------------------------------------------------------------------------------

PLANE: dict[str, Any] = {
    "network": "net.onnx",
    "input": [0.2, -0.1],
    "region": {"epsilon": 0.6},
    "plane": {"x": 0, "y": {1: 1, 2: -1}},
    "unsafe": [{"x": 1, "at": -50, "label": "far left"}, {"x": -1, "y": 0.5, "at": 50, "label": "everywhere"}],
    "methods": ["interval", "deeppoly", "lp", {"name": "krelu-lp", "k": 2}],
    "samples": 100,
    "output": "out",
}
GROUP: dict[str, Any] = {"group": {"lower": [-1, -2], "upper": [1, 1], "sum": [-1, 1]}, "output": "out"}
IN_NETWORK: dict[str, Any] = {
    "group": {"network": "net.onnx", "input": [0.2, -0.1], "region": {"epsilon": 0.6}, "node": "_0", "neurons": [0, 1]}
}


def project(folder: Path, config: dict[str, Any]) -> Path:
    """A folder with a network of two inputs and three outputs, and a configuration."""
    (folder / "net.onnx").write_bytes(kd.to_onnx(dense(2, 8, 8, 3, seed=1)))
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump(config))
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def by_method(folder: Path, *methods: str) -> list[dict[str, Any]]:
    """The rows of the reachable set and of methods, whatever order they were finished in."""
    rows = {row["method"]: row for row in rows_of(folder)}
    return [rows[None], *(rows[method] for method in methods)]


def test_reachable_sets_are_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, PLANE)
    code, out, err = call(capfd, "show", path)
    assert (code, err) == (0, "")
    folder = tmp_path / "out"
    assert (folder / "reach.png").read_bytes().startswith(b"\x89PNG")
    assert "</svg>" in (folder / "reach.svg").read_text()
    assert "reachable set: exact: " in out
    rows = {row["method"]: row for row in rows_of(folder)}
    assert set(rows) == {None, "interval", "deeppoly", "lp", "krelu-lp k=2"}
    areas = [rows[m]["area"] for m in ("deeppoly", "lp", "krelu-lp k=2", None)]
    assert areas == sorted(areas, reverse=True)
    assert all(row["margins"][0] > 0 > row["margins"][1] for row in rows.values())
    assert (folder / "sets.csv").read_text().startswith("set,area,")
    with np.load(folder / "reachable_set.npz") as arrays:
        assert (len(arrays["points"]), len(arrays["sizes"])) == (rows[None]["points"], rows[None]["pieces"])
    # The resolved configuration says the same, since it resumes the run; and the same picture is the same file.
    picture = (folder / "reach.svg").read_bytes()
    (folder / "reach.svg").unlink()
    assert call(capfd, "show", folder / "config.yaml", "--resume")[0] == 0
    assert (folder / "reach.svg").read_bytes() == picture


def test_keeping_clear_is_what_certify_proves(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    network = dense(2, 8, 8, 3, seed=1)
    region = kd.ball(torch.tensor([0.2, -0.1], dtype=torch.float64), 0.6)
    row = torch.tensor([[0.5, 1.0, -1.0]], dtype=torch.float64)
    minimum = {}
    for method in ("deeppoly", "lp"):
        claim = kd.claim(row)
        found = kd.certify(network, region, claim, method, attack=False, tight=True)
        minimum[method] = float(found.lower_bounds[0])
    between = sum(minimum.values()) / 2  # what the linear program proves and DeepPoly does not
    unsafe = [{"x": 0.5, "y": 1.0, "at": between, "label": "there"}]
    path = project(tmp_path, PLANE | {"unsafe": unsafe, "methods": ["deeppoly", "lp"]})
    assert call(capfd, "show", path)[0] == 0
    margins = {r["method"]: r["margins"][0] for r in rows_of(tmp_path / "out")}
    assert margins["lp"] > 0 > margins["deeppoly"]
    for method, value in minimum.items():
        assert margins[method] == pytest.approx(value - between, abs=1e-6)


def test_two_neurons_are_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, GROUP | {"weights": [1, -2], "relaxations": ["interval", "triangle", "joint"]})
    code, out, err = call(capfd, "show", path)
    assert (code, err) == (0, "")
    assert "1 y1 + -2 y2" in out
    folder = tmp_path / "out"
    assert {"group.png", "group.svg", "group.csv", "config.yaml"} <= {file.name for file in folder.iterdir()}
    lines = (folder / "group.csv").read_text().splitlines()
    assert [line.split(",")[0] for line in lines] == ["relaxation", "interval", "triangle", "joint"]
    assert float(lines[-1].split(",")[2]) == pytest.approx(1.0)
    picture = (folder / "group.svg").read_bytes()
    assert call(capfd, "show", folder / "config.yaml", "--resume")[0] == 0
    assert (folder / "group.svg").read_bytes() == picture


def test_other_regions_and_planes_are_drawn(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    boxed = {k: v for k, v in PLANE.items() if k not in ("input", "unsafe")}
    boxed |= {"region": {"lower": [0.0, -0.3], "upper": [0.5, -0.3]}, "plane": {"x": [1, 0, 2], "y": 1}}
    code, out, _ = call(capfd, "show", project(tmp_path, boxed | {"methods": ["deeppoly"]}), "--overwrite")
    assert (code, "sampled outputs" in out) == (0, True)
    round_ = PLANE | {"region": {"epsilon": 0.3, "norm": 2}, "methods": ["zonotope", "lp"], "accuracy": 0.05}
    assert call(capfd, "show", project(tmp_path, round_), "--overwrite")[0] == 0


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({}, "run.yaml: give plane (reachable sets of a network) or group"),
        (PLANE | GROUP, "run.yaml: give plane (reachable sets of a network) or group"),
        (PLANE | {"metods": []}, "run.yaml: metods: unknown key"),
        (PLANE | {"methods": []}, "methods: should have at least one item"),
        (PLANE | {"methods": ["magic"]}, "methods[0]: 'magic' is not one of interval, "),
        (PLANE | {"methods": ["lp", "lp"]}, "methods[1]: 'lp' is the label of item 0 too"),
        (PLANE | {"methods": ["lp", {"name": "lp", "solver": "highspy", "label": "b"}], "region": {"epsilon": 1.0, "norm": 2}}, "methods[1]: solver: highspy takes linear regions only"),  # noqa: E501
        (PLANE | {"plane": {"x": 0}}, "plane.y: missing"),
        (PLANE | {"plane": {"x": 0, "y": "f"}}, "plane.y: give an output's position"),
        (PLANE | {"plane": {"x": 0, "y": {-1: 1.0}}}, "plane.y: positions are whole numbers from 0"),
        (PLANE | {"plane": {"x": 0, "y": 3}}, "plane.y: there is no entry 3, the node has 3"),
        (PLANE | {"plane": {"x": 0, "y": [1, 2]}}, "plane.y: 2 weights, the node has 3 entries"),
        (PLANE | {"plane": {"x": 0, "y": {0: 2}}}, "plane: the two directions are parallel or zero"),
        (PLANE | {"plane": {"x": 0, "y": 1, "node": "x"}}, "the network has no node 'x'"),
        (PLANE | {"unsafe": [{"label": "a"}]}, "unsafe[0]: x and y are both zero"),
        (PLANE | {"input": [1, 2, 3]}, "input: 3 numbers, the network takes 2"),
        (PLANE | {"data": {"name": "digits"}}, "region: the ball is around input or data; give one of them"),
        (PLANE | {"region": {"lower": [0, 0], "upper": [1, 1]}}, "input: a box (region with lower and upper) needs none"),  # noqa: E501
        ({**PLANE, "input": None, "region": {"lower": [0, 0], "upper": [1, -1]}}, "region: empty, lower 0 > upper -1"),
        ({**PLANE, "input": None, "region": {"lower": [0], "upper": [1, -1]}}, "region.upper: should have 1 numbers"),
        (PLANE | {"directions": 5}, "directions: input should be 16 or more, not 5"),
        (PLANE | {"network": "none.onnx"}, "none.onnx: no such file"),
        (PLANE | {"output": None}, "output: missing; give it here or as --output"),
        (GROUP | {"group": {"lower": [-1, 1], "upper": [1, 2]}}, "group: neuron 2 has bounds 1, 2"),
        (GROUP | {"group": {"lower": [-1, -1], "upper": [1, 1, 1]}}, "group.upper: "),
        (GROUP | {"relaxations": ["joint", "joint"]}, "relaxations: should have at least one item, each once"),
        (GROUP | {"weights": [0, 1]}, "weights: should not be zero"),
        (GROUP | {"group": {**IN_NETWORK["group"], "node": "_1"}}, "run.yaml: group: node '_1' feeds no ReLU"),
        (GROUP | {"group": {**IN_NETWORK["group"], "neurons": [0, 8]}}, "two different ones below 8"),
    ],
)  # fmt: skip
def test_bad_configurations_are_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], config: dict[str, Any], message: str
) -> None:
    is_refused(call(capfd, "show", project(tmp_path, config)), message)


def test_when_time_is_up_the_set_is_still_around_the_truth(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, PLANE | {"methods": ["krelu-lp"], "timeout_s": 1e-6})
    code, out, _ = call(capfd, "show", path)
    assert code == 0
    assert "krelu-lp: time is up" in out
    known, late = by_method(tmp_path / "out", "krelu-lp")
    assert late["directions"] == 17  # the first ones, and one of an unsafe half-plane that is not among them
    assert violations(np.array(late["vertices"]), np.array(known["vertices"])).max() <= 1e-9
    assert late["area"] > 1.2 * known["area"]


# What the documents show ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("show*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_ready_to_run(path: Path) -> None:
    study = Show.prepare(Show.load(path))
    assert isinstance(study, PlaneStudy if "plane" in path.read_text() else GroupStudy)
    assert len(study.tasks()) > 1


def test_the_digit_is_beyond_the_barrier() -> None:
    """What the README's picture says: single neurons cannot keep the 8 from being a 3 or a 9, pairs can."""
    study = Show.prepare(Show.load(ROOT / "configs" / "show_digits.yaml"))
    assert isinstance(study, PlaneStudy)
    network, region = study.scene.network, study.scene.region
    towards = -np.eye(2)
    methods = {method.label: method.method for method in study.config.methods}
    lowest = {
        label: -SupportBounds(methods[label].abstract(kd.Query(network, region)), study.plane)(towards)
        for label in ("zonotope", "DeepPoly", "triangle LP", "k-ReLU, k = 2")
    }
    assert all((lowest[label] < 0).all() for label in ("zonotope", "DeepPoly", "triangle LP"))
    assert (lowest["k-ReLU, k = 2"] > 0).all()


def test_the_sets_of_the_arm_are_nested(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    config = yaml.safe_load((ROOT / "configs" / "show_arm.yaml").read_text())
    config |= {"network": str(ROOT / "configs" / config["network"]), "accuracy": 0.02}
    assert call(capfd, "show", project(tmp_path, config), "--output", tmp_path)[0] == 0
    labels = (method if isinstance(method, str) else method["label"] for method in config["methods"])
    known, *others = by_method(tmp_path, *labels)
    areas = [row["area"] for row in (*others, known)]
    assert all(outer > 1.04 * inner for outer, inner in pairwise(areas))
    outside = nesting_violations([np.array(row["vertices"]) for row in (*others, known)])
    assert all(out <= row["gap"] + 1e-6 for out, row in zip(outside, [*others[1:], known], strict=True))


def test_python_in_the_document_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"^```python\n(.*?)^```$", (ROOT / "docs" / "show.md").read_text(), re.MULTILINE | re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert names["around"].area == pytest.approx(3.164, abs=5e-4)
    assert len(names["reachable_set"](names["network"], names["region"], names["plane"]).pieces) == 45
