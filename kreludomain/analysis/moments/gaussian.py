"""Normal distributions of a network's input, and the first two moments of a distribution of outputs."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import Shape

#: Relative rounding error allowed in a covariance's symmetry and in its smallest eigenvalue.
COVARIANCE_TOL = 1e-9


@dataclass(frozen=True, eq=False)
class Moments:
    """Mean ``(m,)`` and covariance ``(m, m)`` of a random vector."""

    mean: Tensor
    covariance: Tensor

    @property
    def std(self) -> Tensor:
        """Standard deviation of each entry, ``(m,)``."""
        return self.covariance.diagonal().clamp(min=0).sqrt()


@dataclass(frozen=True, eq=False)
class Gaussian:
    """The distribution of ``mean + factor z`` with standard normal ``z``: mean ``(*shape)``, factor ``(n, r)``.

    The covariance ``factor factor^T`` is positive semidefinite for any factor, and singular for ``r < n``, which every
    function here accepts. :func:`gaussian` makes one from a covariance. Raises :class:`InputError` for a factor of
    another size and for values that are not finite.
    """

    mean: Tensor
    factor: Tensor

    def __post_init__(self) -> None:
        if self.factor.dim() != 2 or self.factor.shape[0] != self.mean.numel():
            raise InputError(f"gaussian: a factor of shape {tuple(self.factor.shape)} for {self.mean.numel()} entries")
        for name, value in (("mean", self.mean), ("factor", self.factor)):
            if not bool(torch.isfinite(value).all()):
                raise InputError(f"gaussian: the {name} contains NaN or infinite values")

    @cached_property
    def covariance(self) -> Tensor:
        """The covariance, ``(n, n)``."""
        return self.factor @ self.factor.T

    @property
    def std(self) -> Tensor:
        """Standard deviation of each entry, ``(*shape)``."""
        result: Tensor = torch.linalg.vector_norm(self.factor, dim=1).reshape(self.mean.shape)
        return result

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` draws, ``(count, *shape)``."""
        z = torch.randn((count, self.factor.shape[1]), generator=generator, dtype=self.factor.dtype).to(
            self.factor.device
        )
        return self.mean + (z @ self.factor.T).reshape(count, *self.mean.shape)

    def fit(self, network: Network) -> Gaussian:
        """The distribution in the shape and dtype of a network's input. Raises :class:`InputError` for another size."""
        shape = network.input.shape
        if tuple(self.mean.shape) not in {shape, (math.prod(shape),)}:
            raise InputError(f"gaussian: a mean of shape {tuple(self.mean.shape)}, the network takes {shape}")
        dtype, device = network.dtype, network.device
        return Gaussian(self.mean.reshape(shape).to(device, dtype), self.factor.to(device, dtype))


def gaussian(mean: Tensor, covariance: Tensor) -> Gaussian:
    """The normal distribution with this mean ``(*shape)`` and covariance: ``(n, n)``, or ``(n,)`` variances.

    The covariance may be singular, zero included. Raises :class:`InputError` for one of another size, with a negative
    variance, that is not symmetric, or not positive semidefinite.
    """
    mean, covariance = (torch.as_tensor(value, dtype=torch.float64) for value in (mean, covariance))
    size = mean.numel()
    if tuple(covariance.shape) not in {(size, size), (size,)}:
        raise InputError(f"covariance: shape {tuple(covariance.shape)} for {size} entries of the mean")
    if not bool(torch.isfinite(covariance).all()):
        raise InputError("covariance: contains NaN or infinite values")
    variance = covariance if covariance.dim() == 1 else covariance.diagonal()
    if bool((variance < 0).any()):
        entry = int((variance < 0).nonzero()[0])
        raise InputError(f"covariance: a variance of {float(variance[entry]):g} at entry {entry}")
    std = variance.sqrt()
    if covariance.dim() == 1:
        return Gaussian(mean, torch.diag(std))
    _require_symmetric(covariance)
    return Gaussian(mean, std[:, None] * _checked_square_root(_correlations(covariance, std)))


def _require_symmetric(covariance: Tensor) -> None:
    difference = (covariance - covariance.T).abs()
    if float(difference.max()) > COVARIANCE_TOL * float(covariance.abs().max()):
        row, column = divmod(int(difference.argmax()), len(covariance))
        there, opposite = float(covariance[row, column]), float(covariance[column, row])
        raise InputError(
            f"covariance: not symmetric, entry ({row}, {column}) is {there:g}, entry ({column}, {row}) is {opposite:g}"
        )


def _correlations(covariance: Tensor, std: Tensor) -> Tensor:
    """Correlations: 1 on the diagonal, 0 for entries without variance. They do not depend on the entries' scales."""
    scale = torch.where(std > 0, 1 / std, 0.0)
    inconsistent = (std == 0)[:, None] & (covariance != 0)
    if bool(inconsistent.any()):
        row, column = inconsistent.nonzero()[0].tolist()
        value = float(covariance[row, column])
        raise InputError(f"covariance: entry ({row}, {column}) is {value:g}, but entry {row} has no variance")
    return scale[:, None] * (covariance + covariance.T) / 2 * scale


def _checked_square_root(correlations: Tensor) -> Tensor:
    """A square root of correlations. Raises :class:`InputError` if they are not positive semidefinite."""
    smallest = float(torch.linalg.eigvalsh(correlations)[0])
    if smallest < -COVARIANCE_TOL * len(correlations):
        raise InputError(f"covariance: not positive semidefinite, its correlations have the eigenvalue {smallest:.3g}")
    return square_root(correlations)


def square_root(covariance: Tensor) -> Tensor:
    """``F`` ``(n, r)`` with ``F F^T`` the covariance ``(n, n)``; ``r`` is the number of eigenvalues above rounding."""
    values, vectors = torch.linalg.eigh(covariance)
    kept = values > 1e-15 * len(values) * values[-1]
    result: Tensor = vectors[:, kept] * values[kept].sqrt()
    return result


def pixel_covariance(shape: Shape, std: float, correlation: float = 0.0) -> Tensor:
    """The covariance of noise on an image ``(channels, height, width)``, ``(n, n)``.

    Every pixel has standard deviation ``std``; pixels of a channel at distance ``d`` have the correlation
    ``exp(-d^2 / (2 correlation^2))``: ``correlation`` is a length in pixels (0: white noise).
    """
    channels, height, width = shape
    if not correlation:
        return torch.eye(channels * height * width, dtype=torch.float64) * std**2
    rows, columns = (torch.arange(size, dtype=torch.float64) for size in (height, width))
    vertical, horizontal = (
        torch.exp(-((along[:, None] - along) ** 2) / (2 * correlation**2)) for along in (rows, columns)
    )
    return torch.kron(torch.eye(channels, dtype=torch.float64), torch.kron(vertical, horizontal)) * std**2


def image_shape(shape: Shape, given: tuple[int, int] | None = None) -> Shape:
    """``(channels, height, width)`` of an input of ``shape``, as :func:`pixel_covariance` and Gaussian attacks take it.

    It is the input's own, or the height and width ``given``, else a square or a line of entries. Raises
    :class:`InputError` for a height and width that do not fit.
    """
    size = math.prod(shape)
    if given is not None:
        if min(given) < 1 or size % (given[0] * given[1]):
            raise InputError(f"{given[0]} x {given[1]} pixels do not fit an input of {size} values")
        return (size // (given[0] * given[1]), *given)
    if len(shape) == 3:
        return shape
    side = math.isqrt(size)
    return (1, side, side) if side * side == size else (1, 1, size)
