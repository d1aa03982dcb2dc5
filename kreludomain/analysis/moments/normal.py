"""The bivariate normal distribution: its distribution function, and the covariance of two variables after a ReLU.

Both are exact up to rounding for every correlation, -1 and 1 included, and take arrays.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.special import ndtr, owens_t

from kreludomain.errors import InputError

Array = NDArray[np.float64]

#: Standard deviations beyond which a tail is zero in float64 (the density at 38.6 is the smallest number there is).
MAX_SCORE = 40.0


def density(x: ArrayLike) -> Array:
    """The standard normal density."""
    x = np.asarray(x, dtype=np.float64)
    result: Array = np.exp(-x * x / 2) / np.sqrt(2 * np.pi)
    return result


def bivariate_cdf(a: ArrayLike, b: ArrayLike, rho: ArrayLike) -> Array:
    """``P(X <= a, Y <= b)`` for standard normal ``X``, ``Y`` of correlation ``rho`` in [-1, 1]; arguments broadcast.

    Computed from two of Owen's T functions (Owen, *Tables for computing bivariate normal probabilities*, 1956, eq.
    2.1). The absolute error is a few 1e-16 for the given ``rho``; near 1 the function itself is steep in ``rho``.
    Raises :class:`InputError` for a correlation outside [-1, 1].
    """
    x, y, r = _broadcast(a, b, rho)
    return _cdf(x, y, r, _residual(y, x, r), _residual(x, y, r))


def relu_covariance(a: ArrayLike, b: ArrayLike, rho: ArrayLike) -> Array:
    """``Cov(max(a + X, 0), max(b + Y, 0))`` for standard normal ``X``, ``Y`` of correlation ``rho``; they broadcast.

    The closed form of ``E[max(a + X, 0) max(b + Y, 0)]`` minus the product of the means suffers cancellation for large
    ``a`` and ``b``. So both are made negative first, where every term is small, by ``max(x, 0) = x + max(-x, 0)`` and
    ``Cov(x, max(y, 0)) = Cov(x, y) P(y > 0)`` (Stein's lemma). The absolute error is a few 1e-16. Raises
    :class:`InputError` for a correlation outside [-1, 1].
    """
    x, y, r = _broadcast(a, b, rho)
    both = (x > 0) & (y > 0)
    linear = np.select([both, x > 0, y > 0], [ndtr(x) - ndtr(-y), ndtr(y), ndtr(x)], 0.0)
    flipped = np.where((x > 0) != (y > 0), -r, r)
    result: Array = r * linear + _negative_covariance(-np.abs(x), -np.abs(y), flipped)
    return result


def _broadcast(a: ArrayLike, b: ArrayLike, rho: ArrayLike) -> tuple[Array, Array, Array]:
    """Arguments as arrays of one shape. Raises :class:`InputError` for correlations outside [-1, 1]."""
    x, y, r = np.broadcast_arrays(*(np.asarray(value, dtype=np.float64) for value in (a, b, rho)))
    if not bool((np.abs(r) <= 1).all()):
        raise InputError("a correlation lies outside [-1, 1]")
    x, y = (np.clip(value, -MAX_SCORE, MAX_SCORE) + 0.0 for value in (x, y))  # + 0.0: no negative zeros, signs matter
    return x, y, r


def _negative_covariance(a: Array, b: Array, rho: Array) -> Array:
    """:func:`relu_covariance` for ``a, b <= 0``."""
    a, b = a + 0.0, b + 0.0  # no negative zeros
    u, v = _residual(a, b, rho), _residual(b, a, rho)
    q = np.sqrt((1 - rho) * (1 + rho))
    with np.errstate(under="ignore"):
        joint = _cdf(a, b, rho, v, u)
        product = (a * b + rho) * joint + a * density(b) * ndtr(u) + b * density(a) * ndtr(v)
        product += q * density(b) * density(u)  # q^2 times the bivariate density
        means = (a * ndtr(a) + density(a)) * (b * ndtr(b) + density(b))
    result: Array = product - means
    return result


def _residual(x: Array, y: Array, rho: Array) -> Array:
    """``(x - rho y) / sqrt(1 - rho^2)`` without cancellation near ``|rho| = 1``; its limit where that is 0 / 0."""
    sign = np.where(rho < 0, -1.0, 1.0)
    near = 1 - np.abs(rho)
    difference = (x - sign * y) + near * (sign * y)
    q = np.sqrt(near * (1 + np.abs(rho)))
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(difference == 0, 0.0, difference / q)


def _cdf(a: Array, b: Array, rho: Array, v: Array, u: Array) -> Array:
    """:func:`bivariate_cdf` given ``v = (b - rho a) / q`` and ``u = (a - rho b) / q``."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        both = np.sqrt((1 - rho) / (1 + rho))  # the limit of both slopes as a = b goes to zero
        origin = (a == 0) & (b == 0)
        slope_a, slope_b = np.where(origin, both, v / a), np.where(origin, both, u / b)
    opposite = (a * b < 0) | ((a * b == 0) & (a + b < 0))
    value = (ndtr(a) + ndtr(b)) / 2 - owens_t(a, slope_a) - owens_t(b, slope_b) - np.where(opposite, 0.5, 0.0)
    result: Array = np.clip(value, 0.0, np.minimum(ndtr(a), ndtr(b)))
    return result
