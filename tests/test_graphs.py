"""Unusual graphs: every method is sound on them, and what is no question is refused."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import kreludomain as kd
from kreludomain.activations import Relu
from kreludomain.groups import implied_by_box, lifted, piece_vertices
from kreludomain.network.operators import Activation, Input, Linear, Sum
from kreludomain.property import Objective


def linear(out: int, size: int, seed: int, shift: float = 0.0) -> Linear:
    generator = torch.Generator().manual_seed(seed)
    weight = torch.randn(out, size, generator=generator, dtype=torch.float64)
    return Linear(weight, torch.randn(out, generator=generator, dtype=torch.float64) * 0.2 + shift, (size,))


X = kd.Node("x", Input((3,)))
A = kd.Node("a", linear(4, 3, 1), ("x",))
R = kd.Node("r", Activation(Relu(), (4,)), ("a",))
GRAPHS = {
    "no relu": (X, A),
    "relu on the input": (X, kd.Node("r", Activation(Relu(), (3,)), ("x",)), kd.Node("y", linear(2, 3, 2), ("r",))),
    "relu after relu": (X, A, R, kd.Node("s", Activation(Relu(), (4,)), ("r",)), kd.Node("y", linear(2, 4, 2), ("s",))),
    "output is a relu": (X, A, R),
    "output is the input": (X,),
    "a value twice": (X, A, R, kd.Node("two", Sum((1, 1), (4,)), ("r", "r")), kd.Node("y", linear(2, 4, 3), ("two",))),
    "a value less itself": (X, A, R, kd.Node("none", Sum((1, -1), (4,)), ("r", "r"))),
    "two relus of one value": (
        *(X, A, R, kd.Node("s", Activation(Relu(), (4,)), ("a",)), kd.Node("d", Sum((1, -1), (4,)), ("r", "s"))),
        kd.Node("y", linear(2, 4, 2), ("d",)),
    ),
    "all inactive": (
        *(X, kd.Node("a", linear(4, 3, 1, shift=-50.0), ("x",)), R),
        *(
            kd.Node("b", linear(4, 4, 2), ("r",)),
            kd.Node("s", Activation(Relu(), (4,)), ("b",)),
            kd.Node("y", linear(2, 4, 3), ("s",)),
        ),
    ),
    "all active": (
        *(X, kd.Node("a", linear(4, 3, 1, shift=50.0), ("x",)), R),
        *(
            kd.Node("b", linear(4, 4, 2), ("r",)),
            kd.Node("s", Activation(Relu(), (4,)), ("b",)),
            kd.Node("y", linear(2, 4, 3), ("s",)),
        ),
    ),
    "skip from the input": (
        *(X, kd.Node("a", linear(3, 3, 1), ("x",)), kd.Node("r", Activation(Relu(), (3,)), ("a",))),
        *(kd.Node("sum", Sum((1, 1), (3,)), ("x", "r")), kd.Node("s", Activation(Relu(), (3,)), ("sum",))),
        kd.Node("y", linear(2, 3, 3), ("s",)),
    ),
}
METHODS: dict[str, kd.Method] = {
    **{name: method() for name, method in kd.METHODS.items()},
    "lp, all": kd.TriangleLP(refine="all"),
    "krelu-lp, all": kd.KReluLP(k=2, partition_size=6, refine="all"),
    "krelu-lp, hulls": kd.KReluLP(k=2, partition_size=6, formulation="hull"),
}


@pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
@pytest.mark.parametrize("nodes", GRAPHS.values(), ids=GRAPHS.keys())
def test_every_method_on_unusual_graphs(nodes: tuple[kd.Node, ...], method: kd.Method) -> None:
    network = kd.Network(nodes)
    region = kd.ball(torch.full((1, 3), 0.1), 0.5)
    abstraction = method.abstract(kd.Query(network, region))
    values = network.values(region.sample(2000, torch.Generator().manual_seed(0)))
    for name, bounds in abstraction.bounds.items():
        assert (values[name] >= bounds.lower - 1e-9).all()
        assert (values[name] <= bounds.upper + 1e-9).all()
    size = network.size(network.output.name)
    rows = torch.randn(5, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    minima = abstraction.minimise(Objective.linear(network, network.output.name, rows)).lower[0]
    assert (minima <= (values[network.output.name] @ rows.T).amin(0) + 1e-9).all()


def test_a_claim_of_nothing_is_no_claim() -> None:
    with pytest.raises(kd.InputError, match="claim: C has no rows"):
        kd.claim(torch.zeros(0, 3))


def test_claims_on_the_boundary_are_not_verified() -> None:
    """The output is exactly zero somewhere: ``f(x) > 0`` is false, and no rounding may make it true."""
    network = kd.Network((X, A, R))
    region = kd.box(torch.full((1, 3), -1.0), torch.full((1, 3), 1.0))
    for name in kd.METHODS:
        result = kd.certify(network, region, kd.claim(torch.eye(4)), name, attack=False)
        assert result.verdict is (kd.Verdict.FALSIFIED if name == "complete" else kd.Verdict.UNKNOWN)


def test_counterexamples_break_the_claim_in_onnxruntime_inside_the_region() -> None:
    network = kd.Network(GRAPHS["skip from the input"])
    for norm in ("inf", "1", "2"):
        region = kd.ball(torch.full((1, 3), 0.3), 0.2, norm, clip=(0, 1))
        middle = network(region.center)
        result = kd.certify(network, region, kd.claim(torch.eye(2), -middle[0]))
        assert result.verdict is kd.Verdict.FALSIFIED
        assert result.counterexample is not None
        point = result.counterexample[None]
        assert point.dtype == torch.float32
        assert region.contains(point.double()).all()
        assert (kd.network.Runtime(network)(point).double() - middle <= 0).any()


@pytest.mark.parametrize("small", [1e-3, 1e-6])
def test_neurons_of_very_different_sizes(small: float) -> None:
    """Tolerances are relative to the largest neuron of a group; they lean outwards, so the smallest is cut nowhere."""
    low = torch.tensor([[-1.0, -small, -1e3]], dtype=torch.float64)
    high = torch.tensor([[2.0, small, 1e3]], dtype=torch.float64)
    points = lifted(piece_vertices(implied_by_box(torch.arange(3)[None], low, high)))[0]
    corners: Tensor = torch.cartesian_prod(*torch.stack([low[0], 0 * low[0], high[0]], dim=1))
    generator = torch.Generator().manual_seed(0)
    functional = torch.randn(2000, 6, generator=generator, dtype=torch.float64) / torch.tensor([1, small, 1e3] * 2)
    at_corners, at_points = lifted(corners) @ functional.T, points @ functional.T
    assert (at_corners.amin(0) >= at_points.amin(0) - 1e-9).all()
