"""Moments by Monte Carlo with their standard errors, and the comparison of other moments with them."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.analysis.moments.gaussian import Gaussian, Moments
from kreludomain.deadline import Deadline
from kreludomain.errors import InputError
from kreludomain.network import Network

#: Samples that go through the network at once.
BATCH = 5000


@dataclass(frozen=True, eq=False)
class SampledMoments(Moments):
    """Moments of ``count`` samples, with standard errors of the shapes of mean and covariance.

    ``share`` ``(m,)`` is the share of samples in which each output was the largest.
    """

    mean_error: Tensor
    covariance_error: Tensor
    count: int
    share: Tensor

    def difference_error(self, one: int, other: int) -> float:
        """The standard error of ``mean[one] - mean[other]``, with the covariance of both."""
        c = self.covariance
        variance = float(c[one, one] + c[other, other] - 2 * c[one, other])
        return math.sqrt(max(variance, 0.0) / self.count)


def sampled_moments(
    network: Network,
    x: Gaussian,
    count: int,
    generator: torch.Generator | None = None,
    clip: tuple[float, float] | None = None,
    deadline: Deadline = Deadline(),
) -> SampledMoments:
    """Mean and covariance of the output over ``count`` draws of the input; fewer after the deadline, but at least two.

    ``clip``: every entry of a draw is clamped to it first, as an image format would. Raises :class:`InputError` for
    fewer than two samples and for an input that does not fit the network.
    """
    if count < 2:
        raise InputError(f"moments: {count} samples; at least 2 are needed for a covariance")
    x = x.fit(network)
    with torch.no_grad():
        # Sums of powers are taken about a point near the mean, so that they do not cancel.
        pilot = network(_draw(x, min(count, BATCH), torch.Generator().manual_seed(0), clip)).flatten(1)
        origin = pilot.mean(0)
        size = pilot.shape[1]
        drawn, first, wins = 0, origin.new_zeros(size), origin.new_zeros(size)
        second, fourth = origin.new_zeros(size, size), origin.new_zeros(size, size)
        while drawn < count and not (drawn and deadline.passed):
            y = network(_draw(x, max(2, min(BATCH, count - drawn)), generator, clip)).flatten(1)
            z = y - origin
            first, second, fourth = first + z.sum(0), second + z.T @ z, fourth + (z * z).T @ (z * z)
            wins = wins + torch.bincount(y.argmax(1), minlength=size)
            drawn += len(y)
    mean = first / drawn
    covariance = (second - drawn * mean[:, None] * mean) / (drawn - 1)
    spread = (fourth / drawn - (second / drawn) ** 2).clamp(min=0)
    return SampledMoments(
        origin + mean,
        covariance,
        (covariance.diagonal().clamp(min=0) / drawn).sqrt(),
        (spread / drawn).sqrt(),
        drawn,
        wins / drawn,
    )


def _draw(x: Gaussian, count: int, generator: torch.Generator | None, clip: tuple[float, float] | None) -> Tensor:
    draws = x.sample(count, generator)
    return draws if clip is None else draws.clamp(*clip)


@dataclass(frozen=True)
class Agreement:
    """The differences of moments from sampled ones, beside the sampling error.

    ``mean``: distance of the means over the standard deviation of the output (root of the covariance's trace).
    ``std``: largest relative error of a standard deviation. ``covariance``: relative error in the Frobenius norm.
    ``mean_sampling_error`` and ``covariance_sampling_error``: the standard errors of the sampled moments, in the units
    of ``mean`` and ``covariance``. ``max_z_score``: the largest difference of any entry of mean and covariance, in
    standard errors.
    """

    mean: float
    std: float
    covariance: float
    mean_sampling_error: float
    covariance_sampling_error: float
    max_z_score: float


def agreement(found: Moments, sampled: SampledMoments) -> Agreement:
    """Compares moments with sampled ones. Relative errors of a constant output are 0 if exact, else infinite."""
    mean, covariance = found.mean - sampled.mean, found.covariance - sampled.covariance
    spread, size = float(sampled.covariance.trace().clamp(min=0).sqrt()), float(sampled.covariance.norm())
    return Agreement(
        _ratio(float(mean.norm()), spread),
        max(_ratio(d, s) for d, s in zip((found.std - sampled.std).abs().tolist(), sampled.std.tolist(), strict=True)),
        _ratio(float(covariance.norm()), size),
        _ratio(float(sampled.mean_error.norm()), spread),
        _ratio(float(sampled.covariance_error.norm()), size),
        max(_max_z_score(mean, sampled.mean_error), _max_z_score(covariance, sampled.covariance_error)),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else (0.0 if part < 1e-12 else float("inf"))


def _max_z_score(difference: Tensor, error: Tensor) -> float:
    """The largest difference in standard errors; entries without an error count if they differ at all."""
    pairs = zip(difference.abs().flatten().tolist(), error.flatten().tolist(), strict=True)
    return max(_ratio(d, e) for d, e in pairs)
