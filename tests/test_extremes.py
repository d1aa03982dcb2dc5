"""Numbers at the ends of float64 and of float32 prove nothing that is not so."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest
import torch
from torch import Tensor

import kreludomain as kd
from kreludomain.analysis.invert import InvertibilityOptions, pair_radius, preimage_radius
from kreludomain.analysis.lipschitz import LocalBounds
from kreludomain.domain import Bounds, LowerBounds
from kreludomain.network import Network, Node
from kreludomain.network.operators import Activation, Input, Linear
from kreludomain.verify import Verdict

METHODS = ("interval", "zonotope", "deeppoly", "lp", "krelu-lp", "krelu", "complete")
PACKAGE = Path(kd.__file__).parent


def chain(*layers: tuple[list[list[float]], list[float]]) -> Network:
    """Dense layers ``(weight, bias)`` with ReLUs between them."""
    nodes = [Node("x", Input((len(layers[0][0][0]),)))]
    for position, (weight, bias) in enumerate(layers):
        matrix, shift = (torch.tensor(value, dtype=torch.float64) for value in (weight, bias))
        nodes.append(Node(f"layer {position}", Linear(matrix, shift, (matrix.shape[1],)), (nodes[-1].name,)))
        if position < len(layers) - 1:
            relu = Activation(kd.activations.Relu(), (len(bias),))
            nodes.append(Node(f"relu {position}", relu, (nodes[-1].name,)))
    return Network(tuple(nodes))


def box(lower: list[float], upper: list[float]) -> kd.Region:
    return kd.box(torch.tensor(lower, dtype=torch.float64), torch.tensor(upper, dtype=torch.float64))


def positive(network: Network, non_strict: bool = False) -> kd.Claim:
    return kd.claim(
        torch.eye(network.size(network.output.name)), non_strict=torch.tensor([True]) if non_strict else None
    )


# Overflow -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "network",
    [chain(([[1e-300]], [-1e9])), chain(([[1e-300]], [0.0]), ([[1.0]], [-1e9]))],
    ids=["affine", "relu"],
)
def test_the_middle_of_a_box_does_not_overflow_to_a_proof(network: Network, method: str) -> None:
    """f is below -8e8 all over [1.5e308, 1.7e308], whose ends add up to infinity."""
    found = kd.certify(network, box([1.5e308], [1.7e308]), positive(network), method, timeout_s=5)
    assert found.verdict in (Verdict.UNKNOWN, Verdict.TIMEOUT)
    assert float(found.lower_bounds[0]) < -8e8
    assert any("no float32 number is inside the region at input 0" in note for note in found.notes)


@pytest.mark.parametrize("method", METHODS)
def test_layers_that_overflow_decide_no_sign(method: str) -> None:
    """f(x) = 1e100 x by way of 1e400: bounds of the second layer are beyond float64, its neuron is unstable."""
    network = chain(([[1e200]], [0.0]), ([[1e200]], [0.0]), ([[1e-300]], [0.0]))
    region = box([1.0], [1.001])
    falls = kd.claim(-torch.eye(1), torch.ones(1))  # 1 - f(x) > 0: false
    found = kd.certify(network, region, falls, method, timeout_s=5, attack=False)
    assert found.verdict == Verdict.UNKNOWN
    middle = found.bounds["layer 1"]
    assert bool(middle.unstable.all())
    assert not bool(middle.lower.isnan().any() | middle.upper.isnan().any())


@pytest.mark.parametrize("method", ["interval", "zonotope", "deeppoly"])
def test_a_lipschitz_constant_of_layers_that_overflow_is_none_too_small(method: str) -> None:
    network = chain(([[1e200]], [0.0]), ([[1e200]], [0.0]), ([[1e-300]], [0.0]))
    bounds = kd.bounds(network, box([1.0], [1.001]), method)
    assert LocalBounds(network).constant(bounds, 2) >= 1e100


def test_a_radius_of_invertibility_through_overflow_is_none_too_large() -> None:
    """f(x) = 1e100 |x| maps x and -x to the same value: no ball around 0 is mapped one to one."""
    network = chain(([[1e200], [-1e200]], [0.0, 0.0]), ([[1e200, 1e200]], [0.0]), ([[1e-300]], [0.0]))
    found = pair_radius(network, torch.zeros(1), InvertibilityOptions(radius=1.0, epsilon=0.1), timeout_s=2)
    assert found.lower <= 0.05
    assert found.strict == 0


@pytest.mark.parametrize("size", [1e-7, 5e-10, 1e-12])
def test_small_weights_are_not_dropped_by_the_solver_of_invertibility(size: float) -> None:
    """f(x) = ReLU(x + 10) - 2 ReLU(size x) / size = 10 - |x| on [-2, 2]: x and -x have the same image, so that two
    points half a unit apart lie within a quarter of 0, and -1 has the image of 1."""
    network = chain(([[1.0], [size]], [10.0, 0.0]), ([[1.0, -2 / size]], [0.0]))
    found = pair_radius(network, torch.zeros(1), InvertibilityOptions(radius=2.0, epsilon=0.5), timeout_s=20)
    assert found.lower <= 0.25
    assert found.strict == 0
    there = preimage_radius(network, torch.ones(1), InvertibilityOptions(radius=3.0, epsilon=0.5), timeout_s=20)
    assert 1.99 < there.lower <= 2


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_is_not_finite_is_no_bound(number: float) -> None:
    value = torch.tensor([[number, 1.0]], dtype=torch.float64)
    bounds = Bounds.computed(value, value)
    assert bounds.lower.tolist() == [[-torch.inf, 1.0]]
    assert bounds.upper.tolist() == [[torch.inf, 1.0]]
    assert bounds.unstable.tolist() == [[True, False]]
    assert LowerBounds(value).lower.tolist() == [[-torch.inf, 1.0]]
    claim = kd.claim(torch.eye(1), non_strict=torch.tensor([True]))
    assert not claim.proved(value[:, :1]).any()


# Underflow ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_a_bound_that_underflowed_to_zero_proves_nothing(method: str) -> None:
    """f(x) = -1e-400 x is below 0, and every bound of it in float64 is 0."""
    network = chain(([[1e-200]], [0.0]), ([[-1e-200]], [0.0]))
    found = kd.certify(network, box([1.0], [2.0]), positive(network, non_strict=True), method, timeout_s=5)
    assert found.verdict == Verdict.UNKNOWN


@pytest.mark.parametrize("method", METHODS)
def test_a_bound_of_exactly_zero_proves_what_may_be_zero(method: str) -> None:
    """f(x) = 0 x + 0, of which no product comes near the smallest numbers."""
    network = chain(([[1.0]], [0.0]), ([[0.0]], [0.0]))
    found = kd.certify(network, box([-1.0], [2.0]), positive(network, non_strict=True), method, timeout_s=5)
    assert found.verdict == Verdict.VERIFIED


# float32 --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(4))
def test_lower_bounds_of_the_complete_method_are_never_above_the_value(seed: int) -> None:
    """Over one point, nine inputs wide so that neurons are split: a bound near -1000 would move by 1e-5 in float32."""
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    network = chain((draw(5, 9).tolist(), draw(5).tolist()), (draw(1, 5).tolist(), [-1000.3]))
    x = draw(9)
    found = kd.certify(network, kd.box(x, x), positive(network), "complete", attack=False, timeout_s=5)
    assert float(found.lower_bounds[0]) <= float(network(x[None])[0, 0]) + 1e-10


#: What makes a tensor from Python's numbers, in torch's default type unless it is told another one.
FACTORIES = {
    "tensor",
    "as_tensor",
    "scalar_tensor",
    "full",
    "zeros",
    "ones",
    "empty",
    "eye",
    "rand",
    "randn",
    "linspace",
}


def test_no_tensor_is_made_from_numbers_without_a_type() -> None:
    """torch's default is float32: a number that passes through it may come out above itself."""
    found = []
    for path in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
                of_torch = isinstance(node.func.value, ast.Name) and node.func.value.id == "torch"
                typed = any(keyword.arg == "dtype" for keyword in node.keywords)
                if of_torch and node.func.attr in FACTORIES and not typed:
                    found.append(f"{path.relative_to(PACKAGE)}:{node.lineno}")
    assert not found


def test_a_claim_in_float32_whose_decimals_float32_does_not_have_is_warned_about() -> None:
    """torch.tensor([0.1]) is 0.10000000149: not the number that was written."""
    for C, d in ((torch.tensor([[1.0]]), torch.tensor([0.1])), (torch.tensor([[0.3]]), None)):
        with pytest.warns(UserWarning, match=r"claim: [Cd] is float32, .* dtype=torch\.float64"):
            kd.claim(C, d)
    exact = kd.claim(torch.tensor([[1.0, -0.5]]), torch.tensor([0.25]))
    assert exact.d.dtype == torch.float64
    assert kd.claim([[0.3]], [0.1]).d.item() == 0.1
