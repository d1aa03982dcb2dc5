"""Certified invertibility: hand-made maps, enumeration of linear pieces, and the command from the outside."""

from __future__ import annotations

import itertools
import json
import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from networks import conv, dense, residual
from scipy.optimize import linprog
from test_cli import call, is_refused
from torch import Tensor, nn

from kreludomain import InputError, Network, ball, bounds, from_torch, to_onnx
from kreludomain.analysis.invert import (
    InvertibilityOptions,
    InvertibilityRadius,
    jacobian,
    pair_radius,
    preimage_radius,
    transformation_radius,
)
from kreludomain.analysis.invert.difference import slope_bounds
from kreludomain.deadline import Deadline
from kreludomain.run.invert.study import Invert

ROOT = Path(__file__).resolve().parents[1]
NORMS = ("1", "2", "inf")


def network(*layers: tuple[Any, Any]) -> Network:
    """Linear layers ``(weight, bias)`` with ReLU between them."""
    modules: list[nn.Module] = []
    for weight, bias in layers:
        linear = nn.Linear(len(weight[0]), len(weight), dtype=torch.float64)
        linear.weight.data, linear.bias.data = (torch.tensor(v, dtype=torch.float64) for v in (weight, bias))
        modules += [linear, nn.ReLU()]
    return from_torch(nn.Sequential(*modules[:-1]), (len(layers[0][0][0]),))


def point(*values: float) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


#: (x, y) -> (|x|, y): folded along x = 0.
FOLD = network(([[1, 0], [-1, 0], [0, 1], [0, -1]], [0, 0, 0, 0]), ([[1, 1, 0, 0], [0, 0, 1, -1]], [0, 0]))

#: A rotation, written with ReLUs that all change sign: x = ReLU(x) - ReLU(-x).
ISOMETRY = network(
    ([[1, 0], [-1, 0], [0, 1], [0, -1]], [0, 0, 0, 0]), ([[0.6, -0.6, -0.8, 0.8], [0.8, -0.8, 0.6, -0.6]], [1, 2])
)


def is_sound(
    found: InvertibilityRadius,
    asked: Network,
    center: Tensor,
    search: InvertibilityOptions,
    onto: Network | None = None,
) -> None:
    """The witness, looked at from scratch, is one; and the bracket is one."""
    assert found.witness is not None
    assert found.upper is not None
    first, second = found.witness.points
    images = asked(torch.stack([first, second]))
    assert float((images[0] - images[1]).abs().max()) <= 1e-7 * max(1.0, float(images.abs().max()))
    seen = torch.stack([first, second]) if onto is None else onto(torch.stack([first, second]))
    assert float((seen[0] - seen[1]).abs().max()) >= search.epsilon * (1 - 1e-5)
    away = [float(torch.linalg.vector_norm((p - center).flatten(), ord=float(search.norm))) for p in (first, second)]
    assert max(away) == pytest.approx(found.upper, rel=1e-9)
    assert found.lower <= found.upper


# Maps that are known --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_an_isometry_is_invertible_everywhere(norm: str) -> None:
    search = InvertibilityOptions(radius=5.0, epsilon=0.1, norm=norm, stages=(0.5, 1.0))
    for ask in (pair_radius, preimage_radius):
        found = ask(ISOMETRY, point(0.3, -0.2), search)
        assert (found.lower, found.strict, found.upper) == (5.0, 5.0, None)
        assert found.reason == "nothing within 5"


@pytest.mark.parametrize("norm", NORMS)
def test_a_fold_is_where_it_is(norm: str) -> None:
    """|x| from x = 0.7: pairs (s, -s) with s >= eps / 2 lie in balls of 0.7 + s; the mirror image is 1.4 away."""
    center, search = point(0.7, 0.4), InvertibilityOptions(radius=3.0, epsilon=0.02, norm=norm, gap=1e-4)
    r = pair_radius(FOLD, center, search)
    is_sound(r, FOLD, center, search)
    assert r.lower == pytest.approx(0.71, rel=2e-4)
    assert r.strict is not None
    assert 0.67 <= r.strict <= 0.7
    R = preimage_radius(FOLD, center, search)
    is_sound(R, FOLD, center, search)
    assert R.lower == pytest.approx(1.4, rel=2e-4)
    assert R.strict == R.lower


def test_tangents_reach_a_fold_in_any_direction() -> None:
    """|x + y| is folded along x + y = 0: in the plain distance, 1.1 / sqrt(2) from the centre."""
    slanted = network(([[1, 1], [-1, -1], [1, -1], [-1, 1]], [0, 0, 0, 0]), ([[1, 1, 0, 0], [0, 0, 1, -1]], [0, 0]))
    found = pair_radius(slanted, point(0.7, 0.4), InvertibilityOptions(2.0, 0.002, "2"))
    assert found.strict is not None
    assert found.strict <= 1.1 / math.sqrt(2) <= found.lower
    assert found.strict == pytest.approx(1.1 / math.sqrt(2), abs=0.004)
    assert found.lower == pytest.approx(1.1 / math.sqrt(2), abs=0.004)


def test_networks_without_relus() -> None:
    turn, flat = network(([[0.0, 1.0], [-1.0, 0.0]], [1.0, 2.0])), network(([[1.0, 1.0], [2.0, 2.0]], [0.0, 0.0]))
    assert pair_radius(turn, point(0.0, 0.0), InvertibilityOptions(1.0, 0.1)).strict == 1.0
    found = pair_radius(flat, point(0.0, 0.0), InvertibilityOptions(1.0, 0.1))
    assert (found.lower, found.strict) == (pytest.approx(0.05, rel=1e-3), pytest.approx(0.0, abs=1e-6))
    found = transformation_radius(FOLD, turn, point(0.7, 0.4), InvertibilityOptions(2.0, 0.5))
    assert found.lower == pytest.approx(0.95, rel=2e-3)  # s and -s are turned to 2 s >= 0.5 apart


def test_what_is_certified_for_any_two_points_comes_near_the_fold_as_epsilon_shrinks() -> None:
    found = [
        pair_radius(FOLD, point(0.7, 0.4), InvertibilityOptions(3.0, epsilon)).strict for epsilon in (0.2, 0.02, 0.002)
    ]
    assert all(strict is not None and strict <= 0.7 for strict in found)
    assert found == sorted(found)
    assert found[-1] == pytest.approx(0.7, abs=0.005)


def test_a_point_on_the_fold_is_not_isolated() -> None:
    found = preimage_radius(FOLD, point(0.0, 0.4), InvertibilityOptions(2.0, 0.1))
    assert found.lower == 2.0  # the only preimage of (0, y) is (0, y) ...
    assert found.strict == 0.0  # ... but without epsilon nothing is said on a kink whose slopes include zero


def test_a_flat_piece_makes_everything_near_it_equal() -> None:
    flat = network(([[1, 0], [0, 1]], [0, 0]), ([[1, 0], [0, 1]], [0, 0]))  # ReLU: constant in x where x < 0
    found = pair_radius(flat, point(1.0, 1.0), InvertibilityOptions(3.0, 0.1))
    assert found.upper == pytest.approx(1.1, rel=1e-3)
    assert found.lower == pytest.approx(1.1, rel=2e-3)


def test_a_transformation_of_a_network_to_itself_and_to_a_coarser_one() -> None:
    search = InvertibilityOptions(radius=2.0, epsilon=0.5)
    assert transformation_radius(ISOMETRY, FOLD, point(0.7, 0.4), search).upper is None  # FOLD is a function of it
    found = transformation_radius(FOLD, ISOMETRY, point(0.7, 0.4), search)
    is_sound(found, FOLD, point(0.7, 0.4), search, ISOMETRY)
    # Mirror images s and -s differ by (0.6, 0.8) 2 s in the rotation: 1.6 s >= 0.5 from s = 0.3125.
    assert found.lower == pytest.approx(0.7 + 0.3125, rel=2e-3)
    assert found.strict is None


def test_clip_keeps_points_in() -> None:
    found = pair_radius(FOLD, point(0.7, 0.4), InvertibilityOptions(3.0, 0.02, clip=(0.0, 2.0)))
    assert found.upper is None
    assert found.lower == 3.0


# Enumeration ----------------------------------------------------------------------------------------------------------


def pieces(shallow: Network, center: Tensor, radius: float) -> list[tuple[np.ndarray, ...]]:
    """The linear pieces of a network with one hidden layer within a box: rows ``G x <= h`` and the map ``A x + b``."""
    (w, b), (v, c) = (
        (n.operator.weight.numpy(), n.operator.bias.numpy()) for n in shallow.nodes if len(n.operator.tensors()) == 2
    )
    low, high = (center - radius).numpy(), (center + radius).numpy()
    box = list(zip(low, high, strict=True))
    found = [(np.zeros((0, 2)), np.zeros(0), np.zeros(0))]
    for row, offset in zip(w, b, strict=True):  # one line after the other cuts the pieces there are
        cut = []
        for g, h, on in found:
            for sign in (1.0, -1.0):
                rows, sides = np.vstack([g, -sign * row]), np.append(h, sign * offset)
                size = linprog([0, 0, -1], np.hstack([rows, np.ones((len(rows), 1))]), sides, bounds=[*box, (0, 1)])
                if size.status == 0 and -size.fun > 1e-7:
                    cut.append((rows, sides, np.append(on, sign > 0)))
        found = cut
    return [(g, h, (v * on) @ w, (v * on) @ b + c) for g, h, on in found]


def enumerated_preimage(shallow: Network, center: Tensor, search: InvertibilityOptions) -> float:
    """The distance to the nearest other preimage: one linear system a piece."""
    best, target = math.inf, shallow(center[None])[0].numpy()
    for g, h, slope, shift in pieces(shallow, center, search.radius):
        if abs(np.linalg.det(slope)) > 1e-9:
            x = np.linalg.solve(slope, target - shift)
            away = x - center.numpy()
            if (g @ x <= h + 1e-9).all() and np.abs(away).max() >= search.epsilon:
                best = min(best, float(np.linalg.norm(away, ord=float(search.norm))))
    return best


def enumerated_pair(shallow: Network, center: Tensor, search: InvertibilityOptions) -> float:
    """The smallest maximum-norm ball with two points ``epsilon`` apart and one image: linear programs over pairs."""
    best = search.radius
    for (g, h, a, b), (k, m, c, d) in itertools.product(pieces(shallow, center, search.radius), repeat=2):
        top = np.hstack([g, np.zeros((len(g), 3))])
        bottom = np.hstack([np.zeros((len(k), 2)), k, np.zeros((len(k), 1))])
        near = np.vstack([np.hstack([sign * np.eye(4), -np.ones((4, 1))]) for sign in (1.0, -1.0)])
        middle = np.tile(center.numpy(), 2)
        sides = np.concatenate([h, m, middle, -middle])
        equal = np.hstack([a, -c, np.zeros((2, 1))])
        for axis in (0, 1):
            apart = np.zeros((1, 5))
            apart[0, axis], apart[0, axis + 2] = -1.0, 1.0
            found = linprog(
                [0, 0, 0, 0, 1],
                np.vstack([top, bottom, near, apart]),
                np.append(sides, -search.epsilon),
                equal,
                d - b,
                bounds=[(None, None)] * 4 + [(0, best)],
            )
            best = min(best, found.fun) if found.status == 0 else best
    return best


def turning(shallow: Network, center: Tensor, radius: float) -> float:
    """The maximum-norm distance to the nearest edge between pieces of opposite orientation."""
    best, found = radius, pieces(shallow, center, radius)
    for (g, h, a, _), (k, m, c, _) in itertools.combinations(found, 2):
        if np.linalg.det(a) * np.linalg.det(c) < 0 and np.linalg.matrix_rank(a - c, tol=1e-9) == 1:
            near = np.vstack([np.hstack([sign * np.eye(2), -np.ones((2, 1))]) for sign in (1.0, -1.0)])
            rows = np.vstack([np.hstack([np.vstack([g, k]), np.zeros((len(g) + len(k), 1))]), near])
            sides = np.concatenate([h, m, center.numpy(), -center.numpy()])
            edge = linprog([0, 0, 1], rows, sides, bounds=[(None, None)] * 2 + [(0, best)])
            best = min(best, edge.fun) if edge.status == 0 else best
    return best


@pytest.mark.parametrize(("norm", "seed"), [("1", 1), ("2", 4), ("inf", 1)])
def test_the_nearest_preimage_is_that_of_enumeration(norm: str, seed: int) -> None:
    shallow, center = dense(2, 12, 2, seed=seed), point(0.1, -0.2)
    search = InvertibilityOptions(radius=1.5, epsilon=0.01, norm=norm, strict=False, stages=(1.0,))
    found, best = preimage_radius(shallow, center, search), enumerated_preimage(shallow, center, search)
    if best > search.radius:
        assert (found.lower, found.upper) == (search.radius, None)
    else:
        is_sound(found, shallow, center, search)
        assert found.lower <= best
        assert best == pytest.approx(found.lower, rel=2e-3)


def test_the_nearest_pair_is_that_of_enumeration_and_near_the_fold() -> None:
    shallow, center = dense(2, 6, 2, seed=3), point(0.1, -0.2)
    search = InvertibilityOptions(radius=1.0, epsilon=0.05, strict=False)
    found, best = pair_radius(shallow, center, search), enumerated_pair(shallow, center, search)
    assert best < search.radius
    is_sound(found, shallow, center, search)
    assert found.lower <= best + 1e-9
    assert best == pytest.approx(found.lower, rel=2e-3)


def test_on_a_2_12_2_network_r_closes_in_on_the_fold() -> None:
    shallow, center = dense(2, 12, 2, seed=0), point(0.1, -0.2)
    found, fold = pair_radius(shallow, center, InvertibilityOptions(2.0, 0.002)), turning(shallow, center, 2.0)
    assert fold < 2.0
    assert found.strict is not None
    assert found.strict <= fold
    assert found.lower == pytest.approx(fold, abs=0.01)
    assert found.strict == pytest.approx(fold, abs=0.03)


# Any network, any bounds ----------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", ["interval", "deeppoly", "lp", "krelu-lp"])
def test_every_method_gives_the_same_radius(method: str) -> None:
    deep, center = dense(2, 6, 6, 2, seed=1), point(0.2, 0.1)
    search = InvertibilityOptions(radius=1.0, epsilon=0.02, strict=False)
    found, first = (pair_radius(deep, center, replace(search, method=m)) for m in (method, "interval"))
    assert found.lower == pytest.approx(first.lower, rel=2e-3)
    assert found.effort.binaries <= first.effort.binaries


@pytest.mark.parametrize(("build", "epsilon"), [(conv, 0.05), (residual, 0.2)])
def test_convolutions_and_residuals(build: Any, epsilon: float) -> None:
    """A network is a function of itself; and a map to three outputs has other preimages as near as one looks."""
    asked = build(seed=3)
    center = torch.full(asked.input.shape, 0.5, dtype=torch.float64)
    search = InvertibilityOptions(radius=0.05, epsilon=epsilon, stages=(1.0,))
    assert transformation_radius(asked, asked, center, search).lower == 0.05
    found = preimage_radius(asked, center, replace(search, epsilon=0.01, strict=False), timeout_s=20)
    is_sound(found, asked, center, replace(search, epsilon=0.01))


def test_slope_bounds_hold_for_pairs_of_points() -> None:
    deep = dense(3, 8, 8, 2, seed=5)
    region = ball(torch.zeros(1, 3), 0.5)
    slopes = slope_bounds(deep, bounds(deep, region, "deeppoly"))
    x, y = region.sample(500), region.sample(500)
    far = (x - y).abs().amax(1, keepdim=True)
    for name, value in deep.values(x).items():
        speed = ((value - deep.values(y)[name]).abs() / far).amax(0)
        assert (speed.numpy() <= slopes[name] + 1e-12).all()
        assert float(torch.from_numpy(slopes[name]).max()) < 50


def test_no_pair_of_samples_lies_within_what_is_certified() -> None:
    """Newton's method from random pairs finds equal images; none of them contradicts the strict radius."""
    deep, center = dense(2, 6, 6, 2, seed=6), point(0.0, 0.0)
    found = pair_radius(deep, center, InvertibilityOptions(0.5, 0.02, "2", stages=(1.0,)))
    assert found.strict is not None
    generator, nearest = torch.Generator().manual_seed(0), math.inf
    for _ in range(200):
        first, second = torch.rand(2, 2, generator=generator, dtype=torch.float64) * 2 - 1
        for _ in range(8):
            aim = deep(first[None])[0] - deep(second[None])[0]
            second = second + torch.linalg.lstsq(jacobian(deep, second), aim, driver="gelsd").solution
        equal = float((deep(first[None]) - deep(second[None])).abs().max()) < 1e-12
        if equal and float((first - second).abs().max()) > 1e-6:
            nearest = min(nearest, max(float(first.norm()), float(second.norm())))
    assert found.strict <= found.lower <= nearest


def test_a_network_in_float32_is_asked_about_in_float64() -> None:
    found = preimage_radius(FOLD.to(dtype=torch.float32), point(0.7, 0.4), InvertibilityOptions(2.0, 0.02))
    assert found.lower == pytest.approx(1.4, rel=2e-3)


def test_time_that_is_up_leaves_a_bracket() -> None:
    deep, center = dense(2, 40, 40, 40, 2, seed=1), point(0.0, 0.0)
    found = pair_radius(deep, center, InvertibilityOptions(2.0, 0.05, stages=(1.0,), strict=False), timeout_s=1.0)
    assert found.reason == "time limit"
    assert 0.025 <= found.lower < 2.0
    assert found.upper is None or found.upper > found.lower
    assert found.effort.seconds < 10


def test_no_time_at_all_is_no_error() -> None:
    found = preimage_radius(FOLD, point(0.7, 0.4), InvertibilityOptions(2.0, 0.05), timeout_s=0.0)
    assert (found.lower, found.reason) == (0.05, "time limit")
    assert Deadline.after(0.0).passed


# What cannot be -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"norm": "3"}, "norm: '3' is not one of inf, 1, 2"),
        ({"radius": 0.0}, "radius: 0.0 is not a finite number above 0"),
        ({"radius": math.inf}, "radius: inf is not a finite number"),
        ({"epsilon": -1.0}, "epsilon: -1.0 is not"),
        ({"gap": 0.0}, "gap: 0.0 is not"),
        ({"stages": ()}, "stages: [] are not shares"),
        ({"stages": (0.5, 0.5, 1.0)}, "stages: [0.5, 0.5, 1.0] are not shares"),
        ({"stages": (0.5,)}, "stages: [0.5] are not shares"),
    ],
)
def test_searches_that_make_no_sense(values: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError) as error:
        InvertibilityOptions(**{"radius": 1.0, "epsilon": 0.1, **values})
    assert message in str(error.value)


def test_inputs_that_do_not_fit() -> None:
    search = InvertibilityOptions(1.0, 0.1)
    for ask, message in (
        (lambda: pair_radius(dense(3, 4, 2), torch.zeros(3), search), "3 inputs and 2 outputs; a map to fewer"),
        (lambda: pair_radius(FOLD, torch.zeros(3), search), "center: shape (3,), the network takes (2,)"),
        (lambda: pair_radius(FOLD, point(math.nan, 0.0), search), "center: contains NaN"),
        (lambda: pair_radius(FOLD, point(2.0, 0.0), replace(search, clip=(0, 1))), "center: lies outside clip"),
        (lambda: transformation_radius(FOLD, dense(3, 4, 2), torch.zeros(2), search), "are not the same"),
        (lambda: pair_radius(FOLD, point(0.0, 0.0), replace(search, method="magic")), "'magic' is not one of"),
    ):
        with pytest.raises(InputError) as error:
            ask()
        assert message in str(error.value)


# The command ----------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "network": "fold.onnx",
    "points": [[0.75, 0.5]],
    "norms": [1, "inf"],
    "radius": 2.0,
    "epsilon": 0.02,
    "plane": {"lower": [-2, -2], "upper": [2, 2], "curve": {"csv": "curve.csv", "label": "x = 0"}},
    "output": "out",
}


def project(folder: Path, change: dict[str, Any] | None = None) -> Path:
    (folder / "fold.onnx").write_bytes(to_onnx(FOLD))
    (folder / "rotation.onnx").write_bytes(to_onnx(ISOMETRY))
    (folder / "narrow.onnx").write_bytes(to_onnx(dense(3, 4, 2)))
    (folder / "curve.csv").write_text("0,-2\n0,2\n")
    path = folder / "run.yaml"
    path.write_text(yaml.safe_dump({key: v for key, v in (GOOD | (change or {})).items() if v is not None}))
    return path


def rows_of(folder: Path) -> list[dict[str, Any]]:
    """The rows, not in the order in which they were finished."""
    rows = [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]
    return sorted(rows, key=lambda row: (row["network"], row["question"], row["method"]))


def test_the_command_writes_rows_tables_and_pictures(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path, {"methods": ["interval", "deeppoly"], "norms": ["inf"], "stages": [1.0]})
    code, out, err = call(capfd, "invert", path)
    assert (code, err) == (0, "")
    assert "r at 0" in out
    assert "bounds by" in out
    rows = rows_of(tmp_path / "out")
    asked = itertools.product("Rr", ["inf"], ["deeppoly", "interval"])
    assert [(row["question"], row["norm"], row["method"]) for row in rows] == list(asked)
    assert all(row["lower"] == pytest.approx(0.76 if row["question"] == "r" else 1.5, rel=2e-3) for row in rows)
    assert all(row["reason"] == "gap closed" and row["residual"] < 1e-9 for row in rows)
    for name in ("radii.csv", "radii.png", "radii.svg", "plane.png", "plane.svg", "config.yaml"):
        assert (tmp_path / "out" / name).stat().st_size > 100
    assert call(capfd, "invert", tmp_path / "out" / "config.yaml", "--resume")[0] == 0  # it is the same run


def test_transformations_both_ways(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    change = {"onto": ["rotation.onnx"], "both_ways": True, "epsilon": 0.5, "plane": None, "norms": ["inf"]}
    assert call(capfd, "invert", project(tmp_path, change))[0] == 0
    first, second = rows_of(tmp_path / "out")
    assert (first["network"], first["onto"], second["network"]) == ("fold", "rotation", "rotation")
    assert first["lower"] == pytest.approx(0.75 + 0.3125, rel=2e-3)
    assert (second["lower"], second["upper"]) == (2.0, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"raduis": 1.0}, "run.yaml: raduis: unknown key; known are network, onto, both_ways, points, "),
        ({"norms": [3]}, "norms[0]: '3' is not 'inf', '1' or '2'"),
        ({"norms": []}, "norms: should have at least 1 items"),
        ({"norms": [2, "2"]}, "norms: something is there twice"),
        ({"radius": -1.0}, "radius: input should be greater than 0, not -1.0"),
        ({"epsilon": None}, "epsilon: missing"),
        ({"points": None}, "points: give either points or data"),
        ({"points": [[1.0]]}, "run.yaml: points[0]: 1 numbers, the network takes 2"),
        ({"clip": [0, 0.5]}, "run.yaml: points[0]: lies outside clip [0.0, 0.5]"),
        ({"questions": ["q"]}, "questions[0]: 'q' is not 'r', 'R' or 'transformation'"),
        ({"questions": ["transformation"]}, "onto: a transformation needs networks in 'onto'"),
        ({"onto": ["narrow.onnx"], "plane": None}, "run.yaml: networks: inputs of shapes (2,) and (3,)"),
        ({"network": "narrow.onnx", "plane": None}, "run.yaml: network: 3 inputs and 2 outputs"),
        ({"network": "none.onnx"}, "none.onnx: no such file"),
        ({"stages": [0.5]}, "run.yaml: stages: [0.5] are not shares"),
        ({"methods": ["magic"]}, "methods[0]: 'magic' is not one of interval"),
        ({"plane": {"lower": [0, 0], "upper": [0, 1]}}, "plane.upper: should be above lower"),
        ({"plane": {"lower": [0, 0], "upper": [1, 1], "curve": {"csv": "no.csv", "label": "x"}}}, "no.csv: no such"),
        ({"output": None}, "output: missing; give it here or as --output"),
    ],
)
def test_bad_configurations_are_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    is_refused(call(capfd, "invert", project(tmp_path, change)), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("invert*.yaml")), ids=lambda path: path.stem)
def test_the_configurations_are_ready_to_run(path: Path) -> None:
    assert len(Invert.prepare(Invert.load(path)).tasks()) > 0
