"""Lipschitz constants: right on cases made by hand, certified from above, shown from below, in order everywhere."""

from __future__ import annotations

import csv
import json
import math
from itertools import product as combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from networks import ZOO, dense, inputs, matrix
from test_cli import call, is_refused
from torch import Tensor, nn

import kreludomain as kd
from kreludomain.analysis.lipschitz import (
    Architecture,
    Bracket,
    Conv,
    Dense,
    LocalBounds,
    RadiusSearch,
    attacked_radius,
    certified_radius,
    estimate_of,
    jacobian_bounds,
    jacobians,
    layers,
    lipschitz_radius,
    lipsdp,
    local_radius,
    map_norm,
    margin_factor,
    operator_norm,
    power_iteration,
    product,
    sampled_slope,
    sampled_slope_anywhere,
)
from kreludomain.analysis.lipschitz.semidefinite import certified_constant, chain_weights
from kreludomain.network import Runtime
from kreludomain.network.operators import Convolution, Linear, Scale, Sum, TransposedConvolution
from kreludomain.run.lipschitz.rows import NetworkRow, Report, SampleRow
from kreludomain.run.lipschitz.study import LipschitzStudy

ROOT = Path(__file__).resolve().parents[1]
NORMS = ("1", "2", "inf")
ORDER = {"1": 1, "2": 2, "inf": math.inf}


def sequential(*weights: Tensor, bias: float = 0.0) -> kd.Network:
    """Dense layers with these weights, ReLU between them; biases of all but the last: ``bias``, ten times that, ..."""
    modules: list[nn.Module] = []
    for position, weight in enumerate(weights):
        layer = nn.Linear(weight.shape[1], weight.shape[0], dtype=torch.float64)
        layer.weight.data = weight.double()
        layer.bias.data.fill_(bias * 10**position if position + 1 < len(weights) else 0.0)
        modules += [layer, nn.ReLU()]
    return kd.from_torch(nn.Sequential(*modules[:-1]), (weights[0].shape[1],))


def rotation(size: int, seed: int) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.linalg.qr(torch.randn(size, size, generator=generator, dtype=torch.float64)).Q


def region_of(network: kd.Network, norm: str, epsilon: float, seed: int = 1) -> kd.Region:
    return kd.ball(inputs(network, 1, seed), epsilon, norm)


# Cases made by hand ---------------------------------------------------------------------------------------------------


def test_an_isometry_has_constant_one_by_every_bound() -> None:
    network = sequential(rotation(4, 0), rotation(4, 1), rotation(4, 2), bias=20.0)
    region = kd.ball(torch.zeros(4), 1.0, "2")
    local = LocalBounds(network).constant(kd.bounds(network, region), 2)
    lower = sampled_slope(network, region, 2, samples=10).lower
    assert lower == pytest.approx(1, rel=1e-5)  # outputs of some thousands are rounded
    assert lower <= 1 <= min(local, product(network).upper, lipsdp(network).upper)
    for upper in (local, product(network).upper, lipsdp(network).upper):
        assert upper == pytest.approx(1, rel=1e-3)


def test_identity_by_two_relus() -> None:
    # x = relu(x) - relu(-x): the product is 2, and the region on one side of zero knows that it is 1
    eye = torch.eye(1)
    network = sequential(torch.cat([eye, -eye]), torch.cat([eye, -eye], 1))
    assert product(network).upper == pytest.approx(2)
    local, rows = LocalBounds(network), torch.ones(1, 1)
    positive = kd.bounds(network, kd.box(torch.tensor([0.5]), torch.tensor([1.0])))
    both = kd.bounds(network, kd.box(torch.tensor([-0.5]), torch.tensor([1.0])))
    for p in NORMS:
        assert local.constant(positive, p) == pytest.approx(1)
        assert 1 <= local.constant(both, p) <= 2 + 1e-9
        assert float(local.gradients(both, rows, p)[0]) >= 1
        assert sampled_slope_anywhere(network, torch.ones(1, 1, dtype=torch.float64), p).lower == pytest.approx(1)


def test_lipsdp_of_one_hidden_neuron_and_of_the_absolute_value() -> None:
    assert lipsdp(sequential(torch.tensor([[3.0, 4.0]]), torch.tensor([[-2.0]]))).upper == pytest.approx(10, rel=1e-3)
    # |x| = relu(x) + relu(-x): with T = t I, M <= 0 asks for t >= 1 and rho >= t, so the program's value is 1; for
    # x = relu(x) - relu(-x) it asks for t > 1 and rho >= t^2 / (t - 1), which is 4 at best: L <= 2, as the product says
    eye = torch.eye(1)
    both = torch.cat([eye, -eye])
    assert lipsdp(sequential(both, torch.ones(1, 2))).upper == pytest.approx(1, rel=1e-3)
    assert lipsdp(sequential(both, both.T)).upper == pytest.approx(2, rel=1e-3)


def test_where_paths_meet_constants_add_up() -> None:
    class Module(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Linear(3, 3, dtype=torch.float64)
            self.layer.weight.data = 2 * rotation(3, 5)

        def forward(self, x: Tensor) -> Tensor:
            return x + torch.relu(self.layer(x))

    found = product(kd.from_torch(Module(), (3,)))
    assert found.upper == pytest.approx(3)
    assert {(m.source, m.target): m.norm.upper for m in found.maps} == pytest.approx(
        {("x", "layer"): 2, ("x", "add"): 1, ("relu", "add"): 1}
    )


def test_a_dense_network_by_hand() -> None:
    first, second = torch.tensor([[1.0, 2.0], [-3.0, 4.0]]), torch.tensor([[1.0, -1.0]])
    network = sequential(first, second)
    assert product(network, 1).upper == pytest.approx(6 * 1)  # column sums 4 and 6; 1
    assert product(network, math.inf).upper == pytest.approx(7 * 2)  # row sums 3 and 7; 2
    assert product(network, 2).upper == pytest.approx(float(torch.linalg.matrix_norm(first, 2)) * math.sqrt(2))


# Norms ----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ZOO)
def test_maps_between_activations_are_matrices(kind: str) -> None:
    for layer in layers(ZOO[kind]()):
        for mapping in layer.maps:
            if not mapping.nodes:
                continue
            exact = matrix(mapping, mapping.in_shape)
            assert torch.allclose(mapping.matrix, exact)
            assert torch.allclose(matrix(mapping.transpose, mapping.out_shape), exact.T)
            for p in NORMS:
                norm, true = map_norm(mapping, ORDER[p]), float(torch.linalg.matrix_norm(exact, ORDER[p]))
                assert norm.lower <= true * (1 + 1e-12)
                assert norm.upper >= true * (1 - 1e-13)
                assert norm.exact
            assert power_iteration(mapping) == pytest.approx(float(torch.linalg.matrix_norm(exact, 2)), rel=1e-4)


@pytest.mark.parametrize("size", [(7, 9), (16, 16)])
@pytest.mark.parametrize("options", list(combinations([1, 2, 3], [0, 1, 2], [1, 2], [1, 2])))
def test_the_torus_bounds_every_convolution(size: tuple[int, int], options: tuple[int, int, int, int]) -> None:
    stride, padding, dilation, groups = options
    generator = torch.Generator().manual_seed(sum(options))
    weight = torch.randn(4, 2 // groups, 3, 2, generator=generator, dtype=torch.float64)
    steps = (stride, max(1, stride - 1))
    how = (steps, (padding, padding // 2), (dilation, 1), groups)
    operator = Convolution(weight, None, (2, *size), *how)
    transposed = TransposedConvolution(weight, None, operator.out_shape, size, *how)
    true = float(torch.linalg.matrix_norm(matrix(operator.linear, operator.in_shape), 2))
    assert operator_norm(transposed, 2) == operator_norm(operator, 2)
    upper = operator_norm(operator, 2)
    assert true <= upper <= 1.35 * true
    for p in ("1", "inf"):
        exact = float(torch.linalg.matrix_norm(matrix(operator.linear, operator.in_shape), ORDER[p]))
        assert operator_norm(operator, ORDER[p]) == pytest.approx(exact)
        exact = float(torch.linalg.matrix_norm(matrix(operator.linear, operator.in_shape).T, ORDER[p]))
        assert operator_norm(transposed, ORDER[p]) == pytest.approx(exact)


def test_large_maps_are_certified_without_their_matrix(monkeypatch: pytest.MonkeyPatch) -> None:
    mapping = layers(ZOO["residual"]())[1].maps[0]
    exact = map_norm(mapping, 2.0)
    monkeypatch.setattr("kreludomain.analysis.lipschitz.norms.MAX_EXACT_SIZE", 3)
    for p in NORMS:
        bracket = map_norm(mapping, ORDER[p])
        true = float(torch.linalg.matrix_norm(mapping.matrix, ORDER[p]))
        assert bracket.lower <= true <= bracket.upper <= 3 * true
    assert map_norm(mapping, 2.0).lower == pytest.approx(exact.lower, rel=1e-4)


def test_other_operators_are_bounded_too() -> None:
    scale = Scale(torch.tensor([[[-3.0]], [[2.0]]], dtype=torch.float64), None, (2, 4, 4))
    assert operator_norm(scale, 2) == pytest.approx(3)
    assert operator_norm(Sum((1, -1), (3,)), 2) == 1
    rows = Linear(torch.tensor([[3.0, 4.0]], dtype=torch.float64), None, (5, 2))
    assert operator_norm(rows, 2) == pytest.approx(5)


# Local bounds ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ZOO)
@pytest.mark.parametrize("norm", NORMS)
def test_every_jacobian_and_every_slope_is_within_the_local_bounds(kind: str, norm: str) -> None:
    network = ZOO[kind]()
    local, rows = LocalBounds(network), kd.robustness(1, 3).C
    for epsilon in (1e-3, 0.1, 1.0):
        region = region_of(network, norm, epsilon)
        bounds = kd.bounds(network, region, "deeppoly")
        points = region.sample(50, torch.Generator().manual_seed(0))
        jacobian, entries = jacobians(network, points), jacobian_bounds(network, bounds)
        assert bool(((jacobian >= entries.lower) & (jacobian <= entries.upper)).all())
        constant = local.constant(bounds, norm)
        slope = sampled_slope(network, region, norm, samples=60)
        assert float(torch.linalg.matrix_norm(jacobian, ORDER[norm]).max()) <= constant
        assert 0 < slope.lower <= constant
        assert bool(region.contains(torch.stack([slope.first, slope.second])).all())
        gradients = local.gradients(bounds, rows, norm)
        dual = {"1": math.inf, "2": 2, "inf": 1}[norm]
        found = torch.linalg.vector_norm(jacobians(network, points, rows), ord=dual, dim=2)
        assert bool((found <= gradients).all())
        assert bool((gradients <= margin_factor(norm) * constant * (1 + 1e-9)).all()) or norm == "2"


@pytest.mark.parametrize("kind", ["dense", "conv", "residual"])
def test_with_all_signs_decided_the_local_constant_is_exact(kind: str) -> None:
    network = ZOO[kind]()
    region = region_of(network, "inf", 1e-7)
    bounds = kd.bounds(network, region)
    assert not any(bool(bounds[name].unstable.any()) for name in network.pre_activations)
    jacobian = jacobians(network, region.center)[0]
    for p in NORMS:
        true = float(torch.linalg.matrix_norm(jacobian, ORDER[p]))
        assert LocalBounds(network).constant(bounds, p) == pytest.approx(true, rel=1e-8)


def test_the_ball_is_what_helps_where_many_neurons_are_unstable() -> None:
    network = dense(6, 20, 20, 20, 4, seed=3)
    bounds = kd.bounds(network, region_of(network, "2", 2.0), "interval")
    entries = jacobian_bounds(network, bounds)
    largest = torch.maximum(entries.lower.abs(), entries.upper.abs())[0]
    assert LocalBounds(network).constant(bounds, 2) < 0.8 * float(torch.linalg.matrix_norm(largest, 2))


def test_jacobians_are_those_of_autograd() -> None:
    network = ZOO["residual"]()
    x = inputs(network, 3)
    mine = jacobians(network, x)
    for position in range(3):
        point = x[position : position + 1]
        theirs = torch.autograd.functional.jacobian(lambda v: network(v)[0], point)
        assert torch.allclose(mine[position], theirs.reshape(mine[position].shape))


# LipSDP ---------------------------------------------------------------------------------------------------------------


def unit_weights(network: kd.Network) -> list[np.ndarray]:
    return [weight / np.linalg.norm(weight, 2) for weight in chain_weights(network, 1000)]


def test_lipsdp_lies_between_samples_and_product_and_near_the_solvers_claim() -> None:
    network = dense(5, 10, 10, 10, 3, seed=1)
    found, lower = lipsdp(network), sampled_slope_anywhere(network, inputs(network, 50)).lower
    assert lower <= found.upper < 0.8 * product(network).upper
    assert found.claimed is not None
    assert found.upper == pytest.approx(found.claimed, rel=0.01)
    assert found.upper == pytest.approx(lipsdp(network, "clarabel").upper, rel=0.01)


@pytest.mark.parametrize("seed", range(2))
def test_multipliers_that_are_wrong_prove_what_is_true_all_the_same(seed: int) -> None:
    network = dense(4, 8, 8, 3, seed=seed)
    weights, generator = unit_weights(network), np.random.default_rng(seed)
    best = lipsdp(network, "clarabel", tolerance=1e-9).upper / math.prod(
        np.linalg.norm(w, 2) for w in chain_weights(network, 1000)
    )
    for spread in (0.0, 0.1, 3.0):
        guess = [np.exp(spread * generator.standard_normal(len(w))) for w in weights[:-1]]
        assert certified_constant(weights, guess) >= best * (1 - 1e-4)
    for bad in (-1.0, 0.0, math.nan, math.inf):
        assert certified_constant(weights, [np.full(len(w), bad) for w in weights[:-1]]) >= best * (1 - 1e-4)


def test_a_solver_that_stops_early_costs_tightness_not_soundness() -> None:
    network = dense(5, 10, 10, 3, seed=2)
    true = lipsdp(network, tolerance=1e-7).upper
    for tolerance in (1e-1, 1e-2, 1e-3):
        rough = lipsdp(network, tolerance=tolerance).upper
        assert true * (1 - 1e-4) <= rough <= product(network).upper * (1 + 1e-9)


def test_what_lipsdp_refuses() -> None:
    with pytest.raises(kd.InputError, match="lipsdp: node 'add' is not a layer of a chain"):
        lipsdp(ZOO["residual"]())
    with pytest.raises(kd.InputError, match="24 hidden neurons, the limit is 10"):
        lipsdp(ZOO["dense"](), neurons=10)
    with pytest.raises(kd.InputError, match="solver 'mosek' is not one of scs, clarabel"):
        lipsdp(ZOO["dense"](), "mosek")


def test_lipsdp_takes_convolutions_as_matrices() -> None:
    torch.manual_seed(0)
    network = kd.from_torch(nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(8, 2)), (1, 4, 4))
    lower = sampled_slope_anywhere(network, inputs(network, 20)).lower
    assert lower <= lipsdp(network).upper < product(network).upper


# Architectures --------------------------------------------------------------------------------------------------------


def test_standard_deviations_are_those_of_the_initialisations() -> None:
    architecture = Architecture((3, 8, 8), (Conv(5, 3, padding=1), Dense(7)))
    sigmas = {name: [layer.sigma for layer in architecture.estimate(name).layers] for name in ("he", "xavier", "torch")}
    assert sigmas["he"] == pytest.approx([math.sqrt(2 / 27), math.sqrt(2 / 320)])
    assert sigmas["xavier"] == pytest.approx([math.sqrt(2 / (27 + 45)), math.sqrt(2 / 327)])
    assert sigmas["torch"] == pytest.approx([1 / math.sqrt(3 * 27), 1 / math.sqrt(3 * 320)])
    torch.manual_seed(0)
    assert float(nn.Linear(320, 2000).weight.detach().std()) == pytest.approx(sigmas["torch"][1], rel=0.01)
    for name in sigmas:
        network = architecture.draw(name)
        assert network(torch.zeros(2, 3, 8, 8, dtype=torch.float64)).shape == (2, 7)


@pytest.mark.parametrize("name", ["he", "xavier", "torch"])
def test_estimates_of_dense_layers_are_within_a_few_percent(name: str) -> None:
    architecture = Architecture((60,), (Dense(100), Dense(40), Dense(40), Dense(10)))
    draws = [product(architecture.draw(name, seed)) for seed in range(8)]
    for position, layer in enumerate(architecture.estimate(name).layers):
        measured = sum(draw.maps[position].norm.upper for draw in draws) / len(draws)
        assert layer.norm == pytest.approx(measured, rel=0.04)


def test_estimates_of_convolutions_are_within_a_fifth() -> None:
    architecture = Architecture((3, 16, 16), (Conv(8, 3, padding=1), Conv(16, 4, stride=2, padding=1), Conv(8, 3)))
    draws = [product(architecture.draw("he", seed)) for seed in range(3)]
    for position, layer in enumerate(architecture.estimate("he").layers):
        measured = sum(draw.maps[position].norm.upper for draw in draws) / len(draws)
        assert layer.norm == pytest.approx(measured, rel=0.2)


def test_the_slope_is_the_mean_length_of_a_jacobian_times_a_vector() -> None:
    architecture = Architecture((20,), (Dense(60), Dense(60), Dense(10)))
    lengths = []
    for seed in range(60):
        network = architecture.draw("he", seed)
        jacobian = jacobians(network, inputs(network, 10, seed))
        lengths.append(float((jacobian**2).sum((1, 2)).mean()) / 20)
    assert architecture.estimate("he").slope == pytest.approx(math.sqrt(sum(lengths) / 60), rel=0.05)


def test_the_estimate_of_a_network_is_that_of_its_architecture() -> None:
    architecture = Architecture((1, 8, 8), (Conv(6, 3), Dense(10)))
    assert estimate_of(architecture.draw("he"), "he").lipschitz == architecture.estimate("he").lipschitz
    with pytest.raises(kd.InputError, match=r"node 'stem\.1.*' is no dense layer and no convolution"):
        estimate_of(ZOO["residual"](), "he")


@pytest.mark.parametrize(
    ("shape", "layers_", "message"),
    [
        ((4,), (), "it has no layers"),
        ((4, 4), (Dense(3),), r"input \[4, 4\] is not"),
        ((4,), (Conv(3, 3),), r"layer 0 \(conv 3, 3x3, .*an image is expected"),
        ((1, 4, 4), (Conv(3, 3), Conv(3, 3)), r"layer 1 .*larger than its padded input"),
    ],
)
def test_architectures_that_cannot_be(shape: tuple[int, ...], layers_: tuple[Any, ...], message: str) -> None:
    with pytest.raises(kd.InputError, match=message):
        Architecture(shape, layers_)


# Radii and brackets ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("norm", NORMS)
def test_radii_of_a_linear_network_are_exact(norm: str) -> None:
    weight = torch.tensor([[2.0, -1.0, 0.5], [0.0, 1.0, -1.0]])
    network, x = sequential(weight), torch.tensor([[1.0, 0.5, 0.25]], dtype=torch.float64)
    row = (weight[0] - weight[1]).double()
    dual = {"1": math.inf, "2": 2, "inf": 1}[norm]
    true = float(row @ x[0] / torch.linalg.vector_norm(row, ord=dual))
    assert local_radius(LocalBounds(network), x, 0, RadiusSearch(5.0, norm)).certified == pytest.approx(true, rel=1e-9)
    by_method = certified_radius(network, x, 0, RadiusSearch(5.0, norm, tolerance=0.001))
    assert true * 0.998 <= by_method.certified <= true <= by_method.uncertified
    constant = product(network, norm).upper
    assert lipschitz_radius(network, x, 0, constant, norm) <= true * (1 + 1e-12)
    if norm != "1":
        attacked = attacked_radius(network, x, 0, RadiusSearch(5.0, norm), Runtime(network))
        assert attacked is not None
        assert true * (1 - 1e-6) <= attacked <= 1.1 * true
    assert local_radius(LocalBounds(network), x, 1, RadiusSearch(5.0, norm)).certified == 0
    assert certified_radius(network, x, 1, RadiusSearch(5.0, norm)).certified == 0
    assert lipschitz_radius(network, x, 1, constant, norm) == 0


@pytest.mark.parametrize("start", [None, 1e-5, 0.05, 3.0])
def test_where_the_search_starts_does_not_matter(start: float | None) -> None:
    network = dense(4, 8, 8, 3, seed=1)
    x = inputs(network, 1, 7)
    label = int(network(x).argmax())
    plain = certified_radius(network, x, label, RadiusSearch(2.0))
    found = certified_radius(network, x, label, RadiusSearch(2.0), start=start)
    assert found.certified == pytest.approx(plain.certified, rel=0.02)
    assert found.certified < found.uncertified <= found.certified * 1.02
    joint = certified_radius(network, x, label, RadiusSearch(2.0), method=kd.KReluLP(k=2), start=found.certified)
    assert joint.certified >= found.certified * 0.99


def test_a_radius_is_cut_off_where_the_search_ends() -> None:
    network = sequential(torch.eye(2))
    x = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    assert certified_radius(network, x, 0, RadiusSearch(0.25)).certified == 0.25
    late = certified_radius(network, x, 0, RadiusSearch(0.25), deadline=kd.Deadline.after(0.0))
    assert (late.certified, late.notes) == (0.0, ("time limit",))
    with pytest.raises(kd.InputError, match=r"largest 0\.0 is not a number above 0"):
        RadiusSearch(0.0)
    with pytest.raises(kd.InputError, match="norm: 3 is not one of"):
        RadiusSearch(1.0, 3)
    with pytest.raises(kd.InputError, match="norm: 3 is not one of inf, 1, 2"):
        product(network, 3)


def test_a_bracket_whose_order_is_broken_says_so() -> None:
    bracket = Bracket(2.0, {"local": 3.0, "product": 5.0})
    assert (bracket.upper, bracket.ratio, bracket.violations) == (3.0, 1.5, ())
    assert bracket.with_upper("LipSDP", 1.0).violations == ("LipSDP",)
    assert Bracket(math.nan, {"local": 1.0}).violations == ("local",)
    network = NetworkRow("net", "2", product=5.0, sampled=1.0)
    sample = SampleRow("net", 3, 0, "2", 0.1, local=3.0, sampled=4.0, radii={"product": 0.3}, attacked=0.2)
    report = Report.of([network, sample])
    assert report.networks[0].sampled == 4.0
    assert report.violations == ("net, sample 3: local", "net, sample 3: radius by product")


# The command ----------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "network": "net.onnx",
    "data": {"csv": "data.csv"},
    "region": {"norm": 2, "epsilon": 0.1},
    "samples": 20,
    "radius": {"largest": 1, "tolerance": 0.1, "methods": ["deeppoly"]},
    "output": "out",
}


def project(folder: Path, change: dict[str, Any] | None = None) -> Path:
    network = dense(4, 8, 8, 3, seed=1)
    (folder / "net.onnx").write_bytes(kd.to_onnx(network))
    x = torch.rand((3, 4), generator=torch.Generator().manual_seed(3), dtype=torch.float64)
    labels = network(x).argmax(1).tolist()
    labels[-1] = (labels[-1] + 1) % 3
    rows = [",".join(map(repr, [label, *row.tolist()])) for label, row in zip(labels, x, strict=True)]
    (folder / "data.csv").write_text("\n".join(rows) + "\n")
    values = {key: value for key, value in (GOOD | (change or {})).items() if value is not None}
    (folder / "run.yaml").write_text(yaml.safe_dump(values))
    return folder / "run.yaml"


def rows_of(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def test_the_command_brackets_and_compares(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code, out, err = call(capfd, "lipschitz", project(tmp_path))
    assert (code, err) == (0, "")
    assert "l_2 to l_2" in out
    network, *samples = sorted(rows_of(tmp_path / "out"), key=lambda row: int(row.get("index", -1)))
    assert [row["kind"] for row in (network, *samples)] == ["network", "sample", "sample", "sample"]
    assert network["sampled"] <= network["lipsdp"] <= network["product"]
    for row in samples:
        assert row["sampled"] <= row["upper"] <= min(row["local"], network["lipsdp"])
    assert samples[-1]["radii"] == {}
    assert "classified as" in samples[-1]["reason"]
    for row in samples[:2]:
        radii = row["radii"]
        assert list(radii) == ["product", "LipSDP", "local", "deeppoly"]
        assert radii["product"] <= radii["LipSDP"] <= radii["deeppoly"] <= (row["attacked"] or 1)
    for name in ("lipschitz.png", "lipschitz.svg", "networks.csv", "samples.csv"):
        assert (tmp_path / "out" / name).stat().st_size > 0
    with (tmp_path / "out" / "samples.csv").open() as file:
        assert [row["index"] for row in csv.DictReader(file)] == ["0", "1", "2"]
    resolved = LipschitzStudy.load(tmp_path / "out" / "config.yaml")
    assert len(LipschitzStudy.prepare(resolved).tasks()) == 4
    assert resolved.config.samples == 20
    is_refused(call(capfd, "lipschitz", tmp_path / "run.yaml"), "there are results already; use --resume, --overwrite")
    (tmp_path / "arch.yaml").write_text("architectures: [{input: [4], layers: [3], draws: 0}]\noutput: out\n")
    assert call(capfd, "lipschitz", tmp_path / "arch.yaml", "--overwrite")[0] == 0
    assert not (tmp_path / "out" / "samples.csv").exists()  # of the run before


def test_networks_side_by_side_in_another_norm(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    axes = [{"file": "net.onnx", "label": f"net {i}", "axes": {"width": i, "kind": "a"}} for i in (4, 8)]
    change = {"network": None, "networks": axes, "region": {"norm": "inf", "epsilon": 0.1}}
    code, _, err = call(capfd, "lipschitz", project(tmp_path, change))
    assert (code, err) == (0, "")
    rows = rows_of(tmp_path / "out")
    assert [row["lipsdp"] for row in rows if row["kind"] == "network"] == [None, None]
    assert all(row["lipsdp_note"] == "for l_2 only" for row in rows if row["kind"] == "network")


def test_architectures_need_no_network(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    given = [{"conv": 4, "kernel": 3, "padding": 1}, {"dense": 12}, 10]
    item = {"input": [1, 8, 8], "layers": given, "initialisations": ["kaiming", "torch"], "draws": 1}
    (tmp_path / "run.yaml").write_text(yaml.safe_dump({"architectures": [item], "output": "out"}))
    code, out, err = call(capfd, "lipschitz", tmp_path / "run.yaml")
    assert (code, err) == (0, "")
    assert "1x8x8-c4-12-10" in out
    rows = rows_of(tmp_path / "out")
    assert sorted(row["initialisation"] for row in rows) == ["he", "torch"]
    with (tmp_path / "out" / "architectures.csv").open() as file:
        layers_ = [(row["initialisation"], row["layer"]) for row in csv.DictReader(file)]
    assert [name for name, _ in layers_] == ["he"] * 4 + ["torch"] * 4
    assert [layer for _, layer in layers_[:4]] == [*(layer["layer"] for layer in rows[0]["layers"]), "all"]
    assert all(0.5 < row["estimate"] / row["measured"] < 2 for row in rows)
    again = LipschitzStudy.load(tmp_path / "out" / "config.yaml")
    assert again.config.architectures[0].initialisations == ("he", "torch")
    assert (tmp_path / "out" / "architectures.svg").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"netwrk": "net.onnx"}, "run.yaml: netwrk: unknown key"),
        ({"network": None}, "run.yaml: network: missing; give network, networks or architectures"),
        ({"network": "none.onnx"}, "none.onnx: no such file"),
        ({"data": None}, "run.yaml: data: missing; networks are measured around samples"),
        ({"region": {"norm": 3, "epsilon": 0.1}}, "region.norm: '3' is not 'inf', '1' or '2'"),
        (
            {"region": {"norm": 2, "epsilon": 0.1, "clip": [5, 6]}},
            "sample 0: region: the middle of an l_2 ball lies outside",
        ),
        ({"radius": {"largest": 0}}, "radius.largest: input should be greater than 0, not 0"),
        ({"radius": {"largest": 1, "methods": ["magic"]}}, "radius.methods[0]: 'magic' is not one of interval, "),
        ({"radius": {"largest": 1, "methods": [{"name": "lp", "solver": "highs"}]}}, "run.yaml: radius.methods[0]: "),
        ({"lipsdp": {"solver": "mosek"}}, "run.yaml: lipsdp.solver: 'mosek' is not 'scs' or 'clarabel'"),
        ({"lipsdp": True}, "run.yaml: lipsdp: should be a mapping of keys (solver, neurons, timeout_s), not True"),
        ({"bounds": {"name": "deeppoly", "k": 3}}, "bounds.k: unknown key"),
        ({"architectures": [{"input": [4], "layers": [{"conv": 3, "kernel": 3}]}]}, "an image is expected, not [4]"),
        ({"architectures": [{"input": [4], "layers": ["x"]}]}, "architectures[0].layers[0]: give a number of neurons"),
        ({"architectures": [{"input": [4], "layers": [3], "initialisations": ["she"]}]}, "'she' is not one of he, "),
        ({"output": None}, "output: missing; give it here or as --output"),
    ],
)
def test_bad_configurations_are_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    is_refused(call(capfd, "lipschitz", project(tmp_path, change)), message)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("lipschitz*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_ready_to_run(path: Path) -> None:
    assert LipschitzStudy.prepare(LipschitzStudy.load(path)).tasks()
