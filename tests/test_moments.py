"""Moments: against closed forms, quadrature in many digits, enumeration and Monte Carlo; the command from outside."""

from __future__ import annotations

import csv
import math
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import mpmath
import numpy as np
import pytest
import torch
import yaml
from networks import ZOO, conv, dense, inputs, residual
from test_cli import ENVIRONMENT, call, is_refused
from test_run import project, rows_of
from torch import Tensor

import kreludomain as kd
from kreludomain import InputError
from kreludomain.analysis.moments import (
    Gaussian,
    GaussianAttackOptions,
    affine_relu_affine,
    agreement,
    bivariate_cdf,
    cheap_covariance,
    exact_covariance,
    expected_output,
    gaussian,
    image_shape,
    linearise,
    network_moments,
    pixel_covariance,
    propagated_moments,
    relu_covariance,
    relu_layers,
    relu_mean,
    relu_moments,
    sampled_moments,
    smooth_attack,
    smooth_basis,
    sparse_attack,
)
from kreludomain.analysis.moments.network import _jvp, _values
from kreludomain.run.moments.study import MomentsStudy

ROOT = Path(__file__).resolve().parents[1]
ONE_BELOW = 1 - 2.0**-53


def tensor(*values: object) -> Tensor:
    return torch.tensor(values, dtype=torch.float64)


def random_covariance(size: int, rank: int, seed: int = 0) -> Tensor:
    factor = torch.randn(size, rank, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return factor @ factor.T / rank


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


# The bivariate normal ------------------------------------------------------------------------------------------------


def cdf_in_many_digits(a: float, b: float, rho: float) -> float:
    """One-dimensional quadrature of the conditional distribution, split where it is steep."""
    x, y, r = map(mpmath.mpf, (a, b, rho))
    if abs(r) == 1:
        return float(mpmath.ncdf(min(x, y)) if r > 0 else max(mpmath.mpf(0), mpmath.ncdf(x) - mpmath.ncdf(-y)))
    q = mpmath.sqrt((1 - r) * (1 + r))
    steep = [y / r + j * q / abs(r) for j in (-20, -8, -3, -1, 0, 1, 3, 8, 20)] if r else []
    cuts = sorted(cut for cut in [*steep, *map(mpmath.mpf, (-10, -5, -2, 0, 2, 5))] if -40 < cut < x)
    return float(mpmath.quad(lambda t: mpmath.npdf(t) * mpmath.ncdf((y - r * t) / q), [-40, *cuts, x]))


CORRELATIONS = (0.3, -0.7, 1 - 1e-6, -1 + 1e-12, ONE_BELOW, 1.0, -1.0)
PAIRS = ((0.0, 0.0), (1.2, -0.4), (-2.5, -2.5), (-1.0, -1.0 + 1e-7), (0.0, -1.5), (5.0, 0.3))


def test_bivariate_cdf_in_twelve_digits() -> None:
    with mpmath.workdps(20):
        for rho in CORRELATIONS:
            for a, b in PAIRS:
                assert float(bivariate_cdf(a, b, rho)) == pytest.approx(cdf_in_many_digits(a, b, rho), abs=1e-14)


def test_bivariate_cdf_at_the_ends() -> None:
    assert bivariate_cdf([math.inf, -math.inf, math.inf], [0.0, 1.0, math.inf], 0.4).tolist() == [0.5, 0.0, 1.0]
    assert float(bivariate_cdf(0, 0, 0.5)) == pytest.approx(1 / 3, abs=1e-15)  # 1/4 + asin(rho) / (2 pi)
    assert float(bivariate_cdf(-0.0, -0.0, -0.5)) == pytest.approx(1 / 6, abs=1e-15)
    assert bivariate_cdf(np.zeros((3, 1)), np.zeros(4), 0).shape == (3, 4)
    with pytest.raises(InputError, match="correlation"):
        bivariate_cdf(0, 0, 1.0000001)
    with pytest.raises(InputError, match="correlation"):
        relu_covariance(0, 0, math.nan)


def covariance_in_many_digits(a: float, b: float, rho: float) -> float:
    """Price's theorem, integrated once by parts: ``rho Phi(a) Phi(b) + int_0^rho (rho - r) phi2(a, b; r) dr``."""
    x, y, r = map(mpmath.mpf, (a, b, rho))

    def integrand(angle: mpmath.mpf) -> mpmath.mpf:
        s, c = mpmath.sin(angle), mpmath.cos(angle)
        return (r - s) * mpmath.exp(-((x - s * y) ** 2 / (c * c) + y * y) / 2) / (2 * mpmath.pi)

    end = mpmath.asin(r)
    cuts = [end * (1 - mpmath.mpf(2) ** -j) for j in range(0, 40, 2)]
    return float(r * mpmath.ncdf(x) * mpmath.ncdf(y) + mpmath.quad(integrand, [*cuts, end]))


def test_relu_covariance_in_twelve_digits() -> None:
    with mpmath.workdps(20):
        for rho in CORRELATIONS[:5]:
            for a, b in PAIRS:
                expected = covariance_in_many_digits(a, b, rho)
                assert float(relu_covariance(a, b, rho)) == pytest.approx(expected, abs=1e-14)


def test_relu_covariance_does_not_cancel_far_from_zero() -> None:
    # Always active: the covariance is that of the variables, whatever their means; never active: none.
    assert relu_covariance([30.0, 1e9, 1e300], [1e6, 35.0, 50.0], 0.3).tolist() == [0.3, 0.3, 0.3]
    assert np.abs(relu_covariance([-40.0, -1e300, 5.0], [3.0, 2.0, -1e9], 0.9)).max() == 0


@pytest.mark.parametrize("rho", [1.0, ONE_BELOW, 1 - 1e-15, 1 - 1e-12])
def test_relu_covariance_is_continuous_at_full_correlation(rho: float) -> None:
    # The derivative in rho is a probability, so a step of 1e-12 moves the value by 1e-12 at most.
    for a, b in PAIRS:
        for sign in (1, -1):
            limit = float(relu_covariance(a, b, sign))
            assert float(relu_covariance(a, b, sign * rho)) == pytest.approx(limit, abs=(1 - rho) + 1e-15)


# One ReLU layer ------------------------------------------------------------------------------------------------------


def test_one_relu_in_closed_form() -> None:
    found = relu_moments(tensor(0.0), tensor([4.0]))
    assert float(found.mean) == pytest.approx(2 / math.sqrt(2 * math.pi), abs=1e-15)
    assert float(found.covariance) == pytest.approx(4 * (0.5 - 1 / (2 * math.pi)), abs=1e-15)
    m, s = 0.7, 1.3
    density = math.exp(-((m / s) ** 2) / 2) / math.sqrt(2 * math.pi)
    cdf = (1 + math.erf(m / s / math.sqrt(2))) / 2
    mean, square = m * cdf + s * density, (m * m + s * s) * cdf + m * s * density
    found = relu_moments(tensor(m), tensor([s * s]))
    assert float(found.mean) == pytest.approx(mean, abs=1e-15)
    assert float(found.covariance) == pytest.approx(square - mean * mean, abs=1e-15)


def test_two_equal_and_two_opposite_neurons() -> None:
    # max(z, 0) twice has equal entries everywhere; max(z, 0) max(-z, 0) = 0, so that covariance is minus the means.
    equal = relu_moments(tensor(0.0, 0.0), tensor([1.0, 1.0], [1.0, 1.0])).covariance
    assert torch.equal(equal, equal[0, 0].expand(2, 2))
    opposite = relu_moments(tensor(0.3, -0.3), tensor([1.0, -1.0], [-1.0, 1.0]))
    assert float(opposite.covariance[0, 1]) == pytest.approx(-float(opposite.mean.prod()), abs=1e-15)


@pytest.mark.parametrize("rule", ["exact", "cheap"])
def test_entries_without_variance_are_constants(rule: str) -> None:
    mean, covariance = tensor(1.5, -2.0, 0.0, 0.4), torch.zeros(4, 4, dtype=torch.float64)
    covariance[3, 3] = 1.0
    found = relu_moments(mean, covariance, rule)
    assert found.mean[:3].tolist() == pytest.approx([1.5, 0.0, 0.0], abs=1e-100)
    assert bool((found.covariance[:3] == 0).all())
    assert bool((found.covariance[:, :3] == 0).all())
    assert 0 < float(found.covariance[3, 3]) < 1


@pytest.mark.parametrize("scale", [1e-100, 1e-8, 1.0, 1e8, 1e100])
def test_moments_scale_with_their_input(scale: float) -> None:
    mean, covariance = tensor(0.3, -0.5, 1.0), random_covariance(3, 3)
    one, scaled = relu_moments(mean, covariance), relu_moments(mean * scale, covariance * scale**2)
    assert torch.allclose(scaled.mean / scale, one.mean, rtol=1e-13, atol=0)
    assert torch.allclose(scaled.covariance / scale**2, one.covariance, rtol=1e-13, atol=0)


@pytest.mark.parametrize("rank", [1, 5, 64])
def test_exact_covariances_are_covariances(rank: int) -> None:
    mean = torch.randn(64, generator=seeded(1), dtype=torch.float64)
    found = exact_covariance(mean, random_covariance(64, rank))
    assert torch.equal(found, found.T)
    assert float(torch.linalg.eigvalsh(found)[0]) > -1e-13


def test_sixty_four_neurons_in_well_under_a_second() -> None:
    mean, covariance = torch.randn(64, generator=seeded(), dtype=torch.float64), random_covariance(64, 64)
    start = time.perf_counter()
    exact_covariance(mean, covariance)
    assert time.perf_counter() - start < 0.5


def test_large_covariances_are_computed_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    mean, covariance = torch.randn(50, generator=seeded(), dtype=torch.float64), random_covariance(50, 20)
    whole = exact_covariance(mean, covariance)
    monkeypatch.setattr("kreludomain.analysis.moments.relu.PAIRS", 130)
    assert torch.allclose(exact_covariance(mean, covariance), whole, rtol=1e-13, atol=1e-16)


def test_the_cheap_rule_is_exact_on_the_diagonal_and_of_third_order_beside_it() -> None:
    mean = tensor(0.5, -0.3)
    errors = []
    for rho in (0.4, 0.2, 0.1):
        covariance = tensor([1.0, rho], [rho, 1.0])
        difference = cheap_covariance(mean, covariance) - exact_covariance(mean, covariance)
        assert float(difference.diagonal().abs().max()) < 1e-15
        errors.append(abs(float(difference[0, 1])))
    assert 0 < errors[2] < errors[1] / 6 < errors[0] / 36  # a factor of 8 for each halving, nearly


def test_gradients_of_the_mean_are_probabilities() -> None:
    mean = torch.tensor([0.4, -0.2, 3.0, 0.0], dtype=torch.float64, requires_grad=True)
    variance = torch.tensor([0.5, 2.0, 0.0, 0.0], dtype=torch.float64, requires_grad=True)
    slope, curve = torch.autograd.grad(relu_mean(mean, variance).sum(), (mean, variance))
    cdf = [(1 + math.erf(m / math.sqrt(2 * v))) / 2 for m, v in ((0.4, 0.5), (-0.2, 2.0))]
    assert slope.tolist() == pytest.approx([*cdf, 1.0, 0.5], abs=1e-15)
    assert bool(torch.isfinite(curve).all())


def affine(seed: int = 0) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    generator = seeded(seed)
    shapes = ((6, 4), (6,), (3, 6), (3,))
    weights = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return weights[0], weights[1], weights[2], weights[3]


@pytest.mark.parametrize("rank", [1, 2, 4])
def test_affine_relu_affine_against_quadrature(rank: int) -> None:
    """For noise along one line moments are integrals over the line; for more, over a grid of Gauss-Hermite nodes."""
    W, b, V, c = affine()
    x = gaussian(tensor(0.2, -0.1, 0.5, 0.0), random_covariance(4, rank, seed=3))
    assert x.factor.shape[1] == rank
    found = affine_relu_affine(W, b, V, c, x)
    if rank == 1:
        z = torch.linspace(-12, 12, 400_001, dtype=torch.float64)[:, None]
        weight = torch.exp(-(z[:, 0] ** 2) / 2)
        weight, tolerance = weight / weight.sum(), 1e-8
    else:
        z, weight, tolerance = torch.randn(400_000, rank, generator=seeded(5), dtype=torch.float64), None, 5e-3
    y = (x.mean + z @ x.factor.T) @ W.T + b
    y = y.clamp(min=0) @ V.T + c
    mean = y.mean(0) if weight is None else weight @ y
    square = (y - mean).T @ ((y - mean) * (1 / len(y) if weight is None else weight[:, None]))
    size = float(found.covariance.norm())
    assert float((found.mean - mean).norm()) < tolerance * math.sqrt(size)
    assert float((found.covariance - square).norm()) < 2 * tolerance * size


def test_no_noise_gives_the_value_and_no_covariance() -> None:
    W, b, V, c = affine()
    x = gaussian(tensor(0.2, -0.1, 0.5, 0.0), torch.zeros(4, 4, dtype=torch.float64))
    found = affine_relu_affine(W, b, V, c, x)
    assert torch.allclose(found.mean, V @ (W @ x.mean + b).clamp(min=0) + c, rtol=1e-14)
    assert float(found.covariance.abs().max()) == 0


# Gaussians -----------------------------------------------------------------------------------------------------------


def test_factors_give_back_covariances_of_any_scale() -> None:
    scale = tensor(1e-9, 1.0, 0.0, 1e6, 3.0)
    covariance = random_covariance(5, 3) * scale[:, None] * scale
    found = gaussian(torch.zeros(5), covariance).covariance
    assert torch.allclose(found, covariance, rtol=1e-12, atol=0)


@pytest.mark.parametrize(
    ("covariance", "message"),
    [
        (tensor([1.0, 0.5], [0.2, 1.0]), "not symmetric, entry (0, 1) is 0.5, entry (1, 0) is 0.2"),
        (tensor([1.0, 2.0], [2.0, 1.0]), "not positive semidefinite, its correlations have the eigenvalue -1"),
        (tensor([1.0, 0.0], [0.0, -1.0]), "a variance of -1 at entry 1"),
        (tensor([0.0, 0.1], [0.1, 1.0]), "entry (0, 1) is 0.1, but entry 0 has no variance"),
        (tensor([1.0, math.nan], [math.nan, 1.0]), "NaN or infinite"),
        (tensor(1.0, -0.5), "a variance of -0.5 at entry 1"),
        (tensor(1.0, 1.0, 1.0), "shape (3,) for 2 entries"),
        (torch.eye(3), "shape (3, 3) for 2 entries"),
    ],
)
def test_what_is_no_covariance_is_refused(covariance: Tensor, message: str) -> None:
    with pytest.raises(InputError) as error:
        gaussian(torch.zeros(2), covariance)
    assert message in str(error.value)


def test_what_does_not_fit_is_refused() -> None:
    W, b, V, c = affine()
    network, x = dense(4, 5, 3), gaussian(torch.zeros(4), torch.eye(4))
    for call_, message in (
        (lambda: affine_relu_affine(W[:, :3], b, V, c, x), "weight is (6, 3), (6, 4) fits"),
        (lambda: affine_relu_affine(W, b, V, c, x, rule="best"), "'best' is not one of exact, cheap"),
        (lambda: relu_moments(torch.zeros(2), torch.eye(3)), "a mean of shape (2,), a covariance of (3, 3)"),
        (lambda: network_moments(network, gaussian(torch.zeros(3), torch.eye(3)), None), "the network takes (4,)"),
        (lambda: network_moments(network, x, "9"), "no node '9'"),
        (lambda: network_moments(network, x, network.input.name), "is not a ReLU of the network; its ReLU layers are"),
        (lambda: network_moments(network, x, None, point=torch.zeros(3)), "a point of shape (3,)"),
        (lambda: sampled_moments(network, x, 1), "at least 2"),
        (lambda: Gaussian(torch.zeros(2), torch.zeros(3, 1)), "a factor of shape (3, 1)"),
        (lambda: smooth_basis((1, 8, 8), 9), "9 modes on an image of 8 x 8"),
    ):
        with pytest.raises(InputError) as error:
            call_()
        assert message in str(error.value)


def test_correlated_pixels() -> None:
    covariance = pixel_covariance((2, 3, 4), 0.5, correlation=1.5).reshape(2, 3, 4, 2, 3, 4)
    assert float(covariance[1, 2, 3, 1, 0, 1]) == pytest.approx(0.25 * math.exp(-(4 + 4) / (2 * 1.5**2)))
    assert float(covariance[0, 0, 0, 1, 0, 0]) == 0


# Networks ------------------------------------------------------------------------------------------------------------


def one_layer() -> kd.Network:
    return dense(6, 12, 3, seed=4)


def test_one_layer_is_exact_wherever_one_linearises() -> None:
    network, covariance = one_layer(), random_covariance(6, 4, seed=1)
    x = gaussian(tensor(0.1, -0.4, 0.3, 0.0, 0.2, 0.5), covariance)
    (layer,) = relu_layers(network)
    first, last = (network[name].operator for name in (network.nodes[1].name, network.output.name))
    expected = affine_relu_affine(first.weight, first.bias, last.weight, last.bias, x)  # type: ignore[attr-defined]
    elsewhere = inputs(network, 1, seed=9, scale=3.0)[0]
    for found in (
        network_moments(network, x, layer),
        network_moments(network, x, layer, point=elsewhere),
        propagated_moments(network, x),
    ):
        assert torch.allclose(found.mean, expected.mean, atol=1e-13)
        assert torch.allclose(found.covariance, expected.covariance, atol=1e-12)
    assert agreement(expected, sampled_moments(network, x, 100_000, seeded(2))).max_z_score < 4.5


class Around(torch.nn.Module):
    """A ReLU layer with a linear way around it: still exact, and only if the two are taken together."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(7)
        self.hidden, self.beside, self.head = (torch.nn.Linear(n, m).double() for n, m in ((4, 5), (4, 5), (5, 3)))

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.relu(self.hidden(x)) - self.beside(x))
        return result


def test_a_way_around_the_layer_is_exact_too() -> None:
    network = kd.from_torch(Around(), (4,))
    x = gaussian(tensor(0.3, -0.1, 0.2, 0.4), random_covariance(4, 4, seed=2))
    (layer,) = relu_layers(network)
    kept, through = network_moments(network, x, layer), propagated_moments(network, x)
    assert torch.allclose(kept.mean, through.mean, atol=1e-13)
    assert torch.allclose(kept.covariance, through.covariance, atol=1e-13)
    assert agreement(kept, sampled_moments(network, x, 200_000, seeded(3))).max_z_score < 4.5


class SideBySide(torch.nn.Module):
    """Two ReLU layers beside each other, of inputs that have nothing to do with each other."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(8)
        self.one, self.other, self.head, self.foot = (
            torch.nn.Linear(n, m).double() for n, m in ((4, 5), (4, 6), (5, 3), (6, 3))
        )
        self.one.weight.data[:, 2:] = 0
        self.other.weight.data[:, :2] = 0

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.head(torch.relu(self.one(x))) + self.foot(torch.relu(self.other(x)))
        return result


def test_layers_side_by_side_do_not_share_what_their_lines_leave() -> None:
    module = SideBySide()
    x = gaussian(tensor(0.3, -0.1, 0.2, 0.4), tensor(1.0, 0.5, 2.0, 0.7))
    found = propagated_moments(kd.from_torch(module, (4,)), x)
    weight = torch.cat([module.one.weight.data, module.other.weight.data])
    bias = torch.cat([module.one.bias.data, module.other.bias.data])
    out = torch.cat([module.head.weight.data, module.foot.weight.data], 1)
    expected = affine_relu_affine(weight, bias, out, module.head.bias.data + module.foot.bias.data, x)
    assert torch.allclose(found.mean, expected.mean, atol=1e-13)
    assert torch.allclose(found.covariance, expected.covariance, atol=1e-13)


@pytest.mark.parametrize("kind", ZOO)
def test_jacobians_are_those_of_autograd(kind: str) -> None:
    network = ZOO[kind]()
    point = inputs(network, 1, seed=11)[0]
    size = point.numel()
    x = gaussian(point, torch.full((size,), 1e-20))  # so little noise that activation patterns are those of the point
    whole = torch.autograd.functional.jacobian(lambda v: network(v[None])[0], point).reshape(-1, size)
    eye = torch.eye(size, dtype=torch.float64).reshape(size, *point.shape)
    pushed = _jvp(network, _values(network, point[None]), eye)[network.output.name].flatten(1).T
    assert torch.allclose(pushed, whole, atol=1e-12)
    slope = {name: (value > 0).double().flatten() for name, value in network.values(point[None]).items()}
    for layer in relu_layers(network):
        kept = linearise(network, x, layer)
        through = kept.skip + kept.jacobian @ (slope[layer][:, None] * kept.pre_activation.factor)
        assert torch.allclose(through * 1e10, whole, atol=1e-9)


@pytest.mark.parametrize("make", [lambda: dense(5, 8, 8, 3, seed=1), conv, residual], ids=["dense", "conv", "residual"])
def test_little_noise_makes_all_estimates_one(make: Any) -> None:
    network = make()
    x = gaussian(inputs(network, 1)[0], torch.full((math.prod(network.input.shape),), 1e-16))
    linear = network_moments(network, x, None)
    estimates = [
        network_moments(network, x, layer, rule) for layer in relu_layers(network) for rule in ("exact", "cheap")
    ]
    for found in (*estimates, propagated_moments(network, x)):
        assert torch.allclose(found.mean, linear.mean, atol=1e-9)
        assert torch.allclose(found.covariance, linear.covariance, rtol=1e-6, atol=1e-25)


@pytest.mark.parametrize("name", ["digits_dense", "digits_conv", "digits_residual"])
def test_estimates_on_trained_networks(name: str) -> None:
    network = kd.load(ROOT / "configs" / "nets" / f"{name}.onnx")
    x = gaussian(torch.full(network.input.shape, 0.4), pixel_covariance((1, 8, 8), 0.1))
    sampled = sampled_moments(network, x, 20_000, seeded())
    linear = agreement(network_moments(network, x, None), sampled)
    kept = [agreement(network_moments(network, x, layer), sampled) for layer in relu_layers(network)]
    through = agreement(propagated_moments(network, x), sampled)
    assert through.mean < 2.5 * through.mean_sampling_error < linear.mean < 1
    assert through.covariance < 4 * through.covariance_sampling_error < linear.covariance < 1
    assert min(k.mean for k in kept) < linear.mean
    assert min(k.covariance for k in kept) < linear.covariance


def test_expected_output_and_its_gradient() -> None:
    network = conv()
    layer = relu_layers(network)[1]
    x = gaussian(inputs(network, 1)[0], pixel_covariance((2, 6, 6), 0.2, correlation=1.0)).fit(network)
    assert torch.allclose(expected_output(network, x, layer), network_moments(network, x, layer).mean, atol=1e-13)
    mean, factor = x.mean.clone().requires_grad_(), x.factor.clone().requires_grad_()
    gradients = torch.autograd.grad(expected_output(network, Gaussian(mean, factor), layer)[0], (mean, factor))
    for position, gradient in enumerate(gradients):
        step = 1e-6 * torch.randn(gradient.shape, generator=seeded(4), dtype=torch.float64)
        ends = [
            Gaussian(x.mean + s * step, x.factor) if position == 0 else Gaussian(x.mean, x.factor + s * step)
            for s in (1, -1)
        ]
        up, down = (float(expected_output(network, end, layer)[0]) for end in ends)
        assert (up - down) / 2 == pytest.approx(float((gradient * step).sum()), rel=1e-5)


def test_sampled_moments_and_their_errors() -> None:
    W = tensor([1.0, 2.0], [0.0, 1.0])
    linear = torch.nn.Linear(2, 2).double()
    linear.weight.data, linear.bias.data = W, tensor(3.0, -1.0)
    network = kd.from_torch(torch.nn.Sequential(linear), (2,))
    x = gaussian(tensor(1.0, 0.5), tensor([1.0, 0.3], [0.3, 2.0]))
    exact = network_moments(network, x, None)
    runs = [sampled_moments(network, x, 4000, seeded(seed)) for seed in range(1, 200)]
    means = torch.stack([(run.mean - exact.mean) / run.mean_error for run in runs])
    covariances = torch.stack([(run.covariance - exact.covariance) / run.covariance_error for run in runs])
    for scores in (means, covariances):  # standard scores have the mean square 1; 199 of them, up to about 0.1
        assert 0.75 < float(scores.square().mean()) < 1.25
    assert float(runs[0].share.sum()) == pytest.approx(1)
    assert sampled_moments(network, x, 10**9, seeded(), deadline=kd.Deadline.after(0.0)).count == 5000


# Attacks -------------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def digit() -> tuple[kd.Network, Tensor, int]:
    network = kd.load(ROOT / "configs" / "nets" / "digits_shallow.onnx")
    (sample,) = MomentsStudy.prepare(MomentsStudy.load(ROOT / "configs" / "moments_exact.yaml")).samples[:1]
    assert int(network(sample.x[None]).argmax()) == sample.label
    return network, sample.x, sample.label


def test_a_sparse_attack(digit: tuple[kd.Network, Tensor, int]) -> None:
    network, x, label = digit
    options = GaussianAttackOptions(clip=(0.0, 1.0), steps=120)
    found = sparse_attack(network, x, label, (1, 8, 8), 8, target=8, options=options)
    assert found.success
    assert found.target == 8
    assert int(found.sampled.mean.argmax()) == 8
    assert int((found.noise.mean != 0).sum()) <= 8
    assert int((found.noise.std > 0).sum()) == 8
    assert float((found.noise.std**2).sum()) == pytest.approx(8 * 0.1**2)
    assert float(found.noise.std.max() / found.noise.std[found.noise.std > 0].min()) <= 3.0001
    # One ReLU layer: the scores expected are exact.
    assert float(((found.expected - found.sampled.mean) / found.sampled.mean_error).abs().max()) < 4.5


def test_a_smooth_attack_on_any_class(digit: tuple[kd.Network, Tensor, int]) -> None:
    network, x, label = digit
    found = smooth_attack(network, x, label, (1, 8, 8), 3, options=GaussianAttackOptions(steps=120))
    assert found.success
    assert found.target != label
    assert float(found.sampled.mean[found.target] - found.sampled.mean[label]) > 0.5
    basis = smooth_basis((1, 8, 8), 3)
    assert torch.allclose(basis.T @ basis, torch.eye(9, dtype=torch.float64), atol=1e-14)
    outside = torch.eye(64, dtype=torch.float64) - basis @ basis.T
    assert float((outside @ found.noise.mean.flatten()).norm()) < 1e-12
    assert float((outside @ found.noise.covariance).norm()) < 1e-12
    assert float((found.noise.std**2).mean().sqrt()) == pytest.approx(0.1)


def test_attacks_that_cannot_be(digit: tuple[kd.Network, Tensor, int]) -> None:
    network, x, label = digit
    hopeless = smooth_attack(
        network, x, label, (1, 8, 8), 1, target=8, options=GaussianAttackOptions(steps=3, rounds=1)
    )
    assert not hopeless.success
    for target, pixels, message in (
        (label, 8, "is the label"),
        (10, 8, "classes 0 to 9"),
        (8, 65, "image that has 64"),
    ):
        with pytest.raises(InputError, match=message):
            sparse_attack(network, x, label, (1, 8, 8), pixels, target=target)


# The command ---------------------------------------------------------------------------------------------------------

GOOD: dict[str, Any] = {
    "network": "net.onnx",
    "data": {"csv": "data.csv"},
    "noise": {"std": [0.05, 0.2]},
    "samples": 2000,
    "output": "out",
}


def written(folder: Path, change: dict[str, Any] | None = None) -> Path:
    """A folder with a network of 4 inputs and 3 classes, six samples and a configuration."""
    project(folder)
    path = folder / "moments.yaml"
    path.write_text(yaml.safe_dump(GOOD | (change or {})))
    return path


def test_the_command_from_outside(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    sparse = {"kind": "sparse", "pixels": 2, "steps": 20, "clip": [0, 1]}
    attacks = [sparse, {"kind": "smooth", "modes": 2, "target": 0, "steps": 20}]
    rows_used = {"csv": "data.csv", "first": 4, "count": 2}
    path = written(tmp_path, {"data": rows_used, "attacks": attacks, "displacements": [0, 1]})
    code, out, err = call(capfd, "moments", path)
    assert (code, err) == (0, "")
    assert "every layer" in out
    assert "sparse, 2 pixels, target any" in out
    rows = rows_of(tmp_path / "out")
    estimates = [e for row in rows if row["kind"] == "moments" for e in row["estimates"]]
    # Two noises; the linear estimate by one rule, two layers by two, at two points; every layer by two rules.
    assert len(estimates) == 2 * 2 * ((1 + 2 * 2) * 2 + 2)
    assert {estimate["layer"] for estimate in estimates} >= {"none (linear)", "every layer"}
    tried = [row for row in rows if row["kind"] == "attack"]
    assert len(tried) == 4
    skipped = [row for row in tried if row["sampled"] is None]
    assert all(row["reason"] for row in skipped)
    assert {row["index"] for row in skipped} == {5}  # the sample with a wrong label
    with (tmp_path / "out" / "moments.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(estimates)
    for name in ("errors", "displacements", "outputs", "attacks"):
        assert (tmp_path / "out" / f"{name}.png").read_bytes().startswith(b"\x89PNG")
        assert (tmp_path / "out" / f"{name}.svg").read_text().startswith("<?xml")
    kept = np.load(next((tmp_path / "out" / "attacks").glob("*_sparse_2_pixels_target_any.npz")))
    assert int((np.abs(kept["factor"]).sum(1) > 0).sum()) == 2
    is_refused(call(capfd, "moments", path), "there are results already; use --resume, --overwrite")
    # What the run wrote about itself is a configuration that says the same from where it is.
    again = MomentsStudy.load(tmp_path / "out" / "config.yaml")
    assert again.config.noise == MomentsStudy.load(path).config.noise
    assert len(MomentsStudy.prepare(again).tasks()) == 2 * 4


def test_a_covariance_from_a_file(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = written(tmp_path, {"noise": {"covariance": "c.npy"}, "layers": [], "data": {"csv": "data.csv", "count": 1}})
    singular = np.zeros((4, 4))
    singular[0, 0] = 0.04
    np.save(tmp_path / "c.npy", singular)
    assert call(capfd, "moments", path)[0] == 0
    (row,) = rows_of(tmp_path / "out")
    assert {estimate["layer"] for estimate in row["estimates"]} == {"none (linear)", "every layer"}
    singular[0, 1] = 0.01
    np.save(tmp_path / "c.npy", singular)
    is_refused(call(capfd, "moments", path, "--overwrite"), "c.npy: covariance: not symmetric, entry (0, 1) is 0.01")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"nois": {}}, "moments.yaml: nois: unknown key; known are network, data, noise, "),
        ({"noise": {}}, "noise: give std or covariance"),
        ({"noise": None}, "moments.yaml: give noise, attacks or both"),
        ({"noise": {"std": -1.0}}, "noise.std[0]: input should be 0 or more, not -1.0"),
        ({"noise": {"std": []}}, "noise.std: should have at least 1 items, not 0"),
        ({"noise": {"covariance": "c.npy", "correlation": 1}}, "noise.correlation: goes with std"),
        ({"noise": {"covariance": "none.npy"}}, "none.npy: no such file"),
        ({"noise": {"covariance": "data.csv"}}, "data.csv: not a .npy file"),
        ({"samples": 1}, "samples: input should be 2 or more, not 1"),
        ({"layers": ["nine"]}, "layers[0]: 'nine' is not a ReLU layer; there are "),
        ({"layers": "some"}, "layers"),
        ({"image": [3, 3]}, "image: 3 x 3 pixels do not fit an input of 4 values"),
        ({"attacks": [{"kind": "dense"}]}, "attacks[0].kind: 'dense' is not 'sparse' or 'smooth'"),
        ({"attacks": [{"kind": "sparse"}]}, "attacks[0].pixels: missing; a sparse attack needs it"),
        ({"attacks": [{"kind": "smooth", "modes": 1, "pixels": 1}]}, "attacks[0].pixels: not a key of a smooth attack"),
        ({"attacks": [{"kind": "sparse", "pixels": 5}]}, "moments.yaml: attacks[0]: 5 pixels, the image has 4"),
        ({"attacks": [{"kind": "smooth", "modes": 3}]}, "attacks[0]: attack: 3 modes on an image of 2 x 2"),
        ({"attacks": [{"kind": "smooth", "modes": 1, "target": 3}]}, "attacks[0]: target 3, the classes are 0 to 2"),
        ({"attacks": [{"kind": "smooth", "modes": 1, "layer": "x"}]}, "attacks[0]: 'x' is not a ReLU layer"),
        ({"attacks": [{"kind": "smooth", "modes": 1, "clip": [1, 0]}]}, "attacks[0].clip: [1, 0] is empty"),
        ({"network": "none.onnx"}, "none.onnx: no such file"),
        ({"data": {"name": "digits"}}, "digits, test: rows of 64 values, the network takes 4"),
        ({"output": None}, "output: missing; give it here or as --output"),
    ],
)
def test_bad_configurations_are_one_line(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: dict[str, Any], message: str
) -> None:
    is_refused(call(capfd, "moments", written(tmp_path, change)), message)
    assert not (tmp_path / "out").exists()


def test_an_interrupted_run_keeps_its_rows(tmp_path: Path) -> None:
    written(tmp_path, {"samples": 1_000_000})
    command = [sys.executable, "-m", "kreludomain", "moments", "moments.yaml"]
    pipe = subprocess.PIPE
    running = subprocess.Popen(command, cwd=tmp_path, env=ENVIRONMENT, stdout=pipe, stderr=pipe, text=True)
    end = time.monotonic() + 60
    while not (tmp_path / "out" / "results.jsonl").exists() and time.monotonic() < end:
        time.sleep(0.05)
    running.send_signal(signal.SIGINT)
    out, err = running.communicate(timeout=60)
    saved = len(rows_of(tmp_path / "out"))
    how = "kreludomain moments moments.yaml --resume"
    line = f"stopped: {saved} rows are in out/results.jsonl; go on with: {how}\n"
    assert (running.returncode, out, err) == (130, "", line)
    assert saved >= 1


def test_a_time_limit_ends_monte_carlo(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    one = {"csv": "data.csv", "count": 1}
    path = written(tmp_path, {"data": one, "samples": 10**9, "timeout_s": 0.05, "noise": {"std": 0.1}})
    assert call(capfd, "moments", path)[0] == 0
    assert all(5000 <= row["samples"] < 10**8 for row in rows_of(tmp_path / "out"))


def test_shapes_of_images() -> None:
    assert image_shape((1, 8, 8)) == (1, 8, 8)
    assert image_shape((64,), None) == (1, 8, 8)
    assert image_shape((6,), None) == (1, 1, 6)
    assert image_shape((48,), (4, 4)) == (3, 4, 4)


@pytest.mark.parametrize("path", sorted((ROOT / "configs").glob("moments*.yaml")), ids=lambda path: path.stem)
def test_configurations_are_ready_to_run(path: Path) -> None:
    assert MomentsStudy.prepare(MomentsStudy.load(path)).tasks()


def test_python_in_the_document_runs(capfd: pytest.CaptureFixture[str]) -> None:
    text = (ROOT / "docs" / "moments.md").read_text(encoding="utf-8")
    _, code = text.split("```python\n", 1)
    names: dict[str, Any] = {}
    exec(code.split("```", 1)[0], names)
    # One symbol drives both neurons: they are 0.25 + 1.5 z and -0.5 + z.
    z = torch.linspace(-12, 12, 400_001, dtype=torch.float64)
    weight = torch.exp(-z * z / 2) / torch.exp(-z * z / 2).sum()
    y = torch.stack([(0.25 + 1.5 * z).clamp(min=0), (-0.5 + z).clamp(min=0)])
    assert torch.allclose(names["moments"].mean, y @ weight, atol=1e-7)
    assert "tensor" in capfd.readouterr().out
