"""Mean and covariance of ``max(x, 0)`` and of affine-ReLU-affine for normal ``x``: exact, or by a short series.

For affine-ReLU-affine networks see Bibi, Alfadly and Ghanem, *Analytic expressions for probabilistic moments of PL-DNN
with Gaussian input*, CVPR 2018; the joint moment is that of a bivariate normal truncated to the positive quadrant
(Rosenbaum, *Moments of a truncated bivariate normal distribution*, JRSS B 1961).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from torch import Tensor

from kreludomain.analysis.moments.gaussian import Gaussian, Moments
from kreludomain.analysis.moments.normal import relu_covariance
from kreludomain.errors import InputError

#: Pairs of neurons whose covariance is computed at once, which limits the memory of intermediate arrays.
PAIRS = 1_000_000

#: Smaller variances count as this one; means more standard deviations from zero count as this many (tails underflow).
MIN_VARIANCE, MAX_SCORE = 1e-300, 40.0


def relu_mean(mean: Tensor, variance: Tensor) -> Tensor:
    """``E[max(x, 0)]`` of normal entries, exactly; any shape, zero variances included, differentiable in both.

    ``m Phi(m/s) + s phi(m/s)``, computed as ``max(m, 0)`` plus a term that is at least zero, so that nothing cancels.
    """
    std = variance.clamp(min=MIN_VARIANCE).sqrt()
    tail = (mean.abs() / std).clamp(max=MAX_SCORE)
    added = std * (_density(tail) - tail * torch.special.ndtr(-tail))
    result: Tensor = (mean + mean.abs()) / 2 + added.clamp(min=0)
    return result


def active_probability(mean: Tensor, variance: Tensor) -> Tensor:
    """``P(x > 0)`` for normal entries; one half where mean and variance are both zero."""
    result: Tensor = torch.special.ndtr((mean / variance.clamp(min=MIN_VARIANCE).sqrt()).clamp(-MAX_SCORE, MAX_SCORE))
    return result


def _density(x: Tensor) -> Tensor:
    result: Tensor = torch.exp(-x * x / 2) / (2 * torch.pi) ** 0.5
    return result


def exact_covariance(mean: Tensor, covariance: Tensor) -> Tensor:
    """The covariance of ``max(x, 0)``, ``(n, n)``, exactly."""
    std = covariance.diagonal().clamp(min=0).sqrt().cpu().numpy()
    scale = np.divide(1.0, std, out=np.zeros_like(std), where=std > 0)
    with np.errstate(over="ignore"):
        a = np.clip(mean.detach().cpu().numpy() * scale, -MAX_SCORE, MAX_SCORE)
    given = covariance.detach().cpu().numpy()
    size, result = len(a), np.zeros(covariance.shape)
    step = max(1, PAIRS // max(size, 1))
    for first in range(0, size, step):
        rows, columns = slice(first, first + step), slice(first, size)
        rho = np.clip(given[rows, columns] * scale[rows, None] * scale[columns], -1.0, 1.0)
        result[rows, columns] = relu_covariance(a[rows, None], a[columns], rho) * std[rows, None] * std[columns]
    result = np.triu(result, 1)
    result += result.T
    np.fill_diagonal(result, np.maximum(relu_covariance(a, a, 1.0), 0.0) * std * std)
    return torch.from_numpy(result).to(covariance)


def cheap_covariance(mean: Tensor, covariance: Tensor) -> Tensor:
    """The covariance of ``max(x, 0)``, ``(n, n)``: exact variances, two terms of Mehler's series for pairs.

    ``C_ij Phi_i Phi_j + C_ij^2 phi_i phi_j / (2 s_i s_j)``: exact for uncorrelated pairs, wrong by O(rho^3) for others.
    """
    variance = covariance.diagonal().clamp(min=0)
    std = variance.sqrt()
    scale = torch.where(std > 0, 1 / std, 0.0)
    a = (mean * scale).clamp(-MAX_SCORE, MAX_SCORE)
    slope, curvature = torch.special.ndtr(a), _density(a) * scale
    result = covariance * slope[:, None] * slope + covariance**2 * curvature[:, None] * curvature / 2
    exact = relu_covariance(a.detach().cpu().numpy(), a.detach().cpu().numpy(), 1.0)
    found: Tensor = result.diagonal_scatter(torch.from_numpy(exact).to(variance).clamp(min=0) * variance)
    return found


#: How the covariance of a ReLU layer is computed, by name.
RULES: dict[str, Callable[[Tensor, Tensor], Tensor]] = {"exact": exact_covariance, "cheap": cheap_covariance}


def rule_named(name: str) -> Callable[[Tensor, Tensor], Tensor]:
    """An entry of :data:`RULES`. Raises :class:`InputError` for another name."""
    if name not in RULES:
        raise InputError(f"moments: rule {name!r} is not one of {', '.join(RULES)}")
    return RULES[name]


def relu_moments(mean: Tensor, covariance: Tensor, rule: str = "exact") -> Moments:
    """Mean and covariance of ``max(x, 0)`` for normal ``x`` of this mean ``(n,)`` and covariance ``(n, n)``.

    The mean is exact by either rule. The input's covariance is not checked here (:func:`gaussian` does). Raises
    :class:`InputError` for sizes that do not fit and for an unknown rule.
    """
    if mean.dim() != 1 or covariance.shape != (len(mean), len(mean)):
        raise InputError(f"moments: a mean of shape {tuple(mean.shape)}, a covariance of {tuple(covariance.shape)}")
    return Moments(relu_mean(mean, covariance.diagonal().clamp(min=0)), rule_named(rule)(mean, covariance))


def affine_relu_affine(
    weight: Tensor, bias: Tensor, out_weight: Tensor, out_bias: Tensor, x: Gaussian, rule: str = "exact"
) -> Moments:
    """Mean and covariance of ``V max(W x + b, 0) + c`` for a normal ``x``; exact by the rule ``exact``.

    ``weight`` is ``(k, n)``, ``bias`` ``(k,)``, ``out_weight`` ``(m, k)``, ``out_bias`` ``(m,)``. Raises
    :class:`InputError` for sizes that do not fit.
    """
    sizes = {"weight": (len(bias), x.mean.numel()), "out_weight": (len(out_bias), len(bias))}
    for name, given in (("weight", weight), ("out_weight", out_weight)):
        if tuple(given.shape) != sizes[name]:
            raise InputError(f"moments: {name} is {tuple(given.shape)}, {sizes[name]} fits the others")
    factor = weight @ x.factor
    hidden = relu_moments(weight @ x.mean.flatten() + bias, factor @ factor.T, rule)
    return Moments(out_weight @ hidden.mean + out_bias, out_weight @ hidden.covariance @ out_weight.T)
