"""Monte Carlo: what moments are compared with, and how sure it is of itself."""

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
class Sampled(Moments):
    """Sampled moments with their standard errors (of the shapes of mean and covariance).

    ``count`` samples were drawn; ``share`` ``(m,)`` is how often each output was the largest.
    """

    mean_error: Tensor
    covariance_error: Tensor
    count: int
    share: Tensor

    def difference_error(self, one: int, other: int) -> float:
        """The standard error of ``mean[one] - mean[other]``: outputs are sampled together."""
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
) -> Sampled:
    """Mean and covariance of the output over ``count`` draws of the input; fewer at the deadline, never under two.

    ``clip``: every entry of a draw is moved into it first, as an image format would.
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
    return Sampled(
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
    """How far moments are from sampled ones, and how far exact ones would be by chance.

    ``mean``: distance of the means over the standard deviation of the output (root of the covariance's trace).
    ``std``: largest relative error of a standard deviation. ``covariance``: relative error in the Frobenius norm.
    ``mean_chance`` and ``covariance_chance``: what the sample's own error makes of ``mean`` and ``covariance``.
    ``worst``: the largest difference of any entry of mean and covariance, in standard errors.
    """

    mean: float
    std: float
    covariance: float
    mean_chance: float
    covariance_chance: float
    worst: float


def agreement(found: Moments, sampled: Sampled) -> Agreement:
    """Compares moments with sampled ones. Where an output does not vary, relative errors are 0 if exact, else
    infinite."""
    mean, covariance = found.mean - sampled.mean, found.covariance - sampled.covariance
    spread, size = float(sampled.covariance.trace().clamp(min=0).sqrt()), float(sampled.covariance.norm())
    return Agreement(
        _ratio(float(mean.norm()), spread),
        max(_ratio(d, s) for d, s in zip((found.std - sampled.std).abs().tolist(), sampled.std.tolist(), strict=True)),
        _ratio(float(covariance.norm()), size),
        _ratio(float(sampled.mean_error.norm()), spread),
        _ratio(float(sampled.covariance_error.norm()), size),
        max(_scores(mean, sampled.mean_error), _scores(covariance, sampled.covariance_error)),
    )


def _ratio(part: float, whole: float) -> float:
    return part / whole if whole else (0.0 if part < 1e-12 else float("inf"))


def _scores(difference: Tensor, error: Tensor) -> float:
    """The largest difference in standard errors; entries without an error count if they differ at all."""
    pairs = zip(difference.abs().flatten().tolist(), error.flatten().tolist(), strict=True)
    return max(_ratio(d, e) for d, e in pairs)
