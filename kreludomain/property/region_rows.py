"""How a region says its shape to linear and conic programs: rows, and cones of norms."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse

from kreludomain.errors import InputError


@dataclass(frozen=True, eq=False)
class NormCone:
    """``||matrix @ x + offset||_norm <= radius`` for an input ``x``, flat.

    ``matrix`` is ``(r, n)``, ``offset`` ``(r,)``, ``norm`` 1, 2 or inf. A ball is the identity and minus its
    centre; an ellipsoid has another matrix.
    """

    matrix: sparse.csr_matrix
    offset: np.ndarray
    radius: float
    norm: float = 2

    @classmethod
    def ball(cls, center: np.ndarray, radius: np.ndarray, norm: float = 2) -> NormCone:
        """``||(x - center) / radius||_norm <= 1``, ``(n,)`` each; entries of radius 0 are left to the bounding box."""
        largest, weights = _weights(radius)
        return cls(sparse.diags(weights, format="csr"), -weights * center, largest, norm)


@dataclass(frozen=True, eq=False)
class RegionRows:
    """``lower <= matrix @ (x, t) <= upper``, and ``x`` in every cone: a region within its bounding box.

    ``x`` are the ``n`` entries of an input, flat; ``t`` are auxiliary variables between ``auxiliary_lower`` and
    ``auxiliary_upper``, ``(k,)``, all finite. ``matrix`` is ``(r, n + k)``, the sides ``(r,)``, infinite where a row
    has none. A point ``x`` is in the region exactly if it is in the box and some ``t`` satisfies the rows.

    Raises :class:`InputError` for sizes that do not fit.
    """

    matrix: sparse.csr_matrix
    lower: np.ndarray
    upper: np.ndarray
    auxiliary_lower: np.ndarray
    auxiliary_upper: np.ndarray
    cones: tuple[NormCone, ...] = ()

    def __post_init__(self) -> None:
        rows = self.matrix.shape[0]
        if not self.lower.shape == self.upper.shape == (rows,):
            raise InputError(f"region: {rows} rows, but sides of shapes {self.lower.shape} and {self.upper.shape}")
        if self.auxiliary_lower.shape != self.auxiliary_upper.shape or self.inputs < 0:
            raise InputError("region: bounds of auxiliary variables do not fit its rows")
        if not (np.isfinite(self.auxiliary_lower).all() and np.isfinite(self.auxiliary_upper).all()):
            raise InputError("region: auxiliary variables need finite bounds")
        for cone in self.cones:
            if cone.matrix.shape != (len(cone.offset), self.inputs):
                raise InputError(f"region: a cone over {cone.matrix.shape[1]} entries, the rows have {self.inputs}")

    @property
    def inputs(self) -> int:
        """``n``, the entries of an input."""
        return int(self.matrix.shape[1]) - len(self.auxiliary_lower)

    @property
    def norms(self) -> frozenset[float]:
        """The norms of the cones, which a solver has to take."""
        return frozenset(cone.norm for cone in self.cones)

    @classmethod
    def none(cls, inputs: int) -> RegionRows:
        """No rows: the region is its box."""
        return cls.linear(np.zeros((0, inputs)), np.zeros(0), np.zeros(0))

    @classmethod
    def linear(
        cls,
        matrix: np.ndarray | sparse.spmatrix,
        lower: np.ndarray | float = -np.inf,
        upper: np.ndarray | float = np.inf,
    ) -> RegionRows:
        """``lower <= matrix @ x <= upper``: a polytope."""
        rows = sparse.csr_matrix(matrix)
        low, high = (np.broadcast_to(side, (rows.shape[0],)).astype(float) for side in (lower, upper))
        return cls(rows, low, high, np.zeros(0), np.zeros(0))

    @classmethod
    def conic(cls, cones: Sequence[NormCone]) -> RegionRows:
        """Cones of norms, one or more, without rows."""
        none = cls.none(cones[0].matrix.shape[1])
        return cls(none.matrix, none.lower, none.upper, none.auxiliary_lower, none.auxiliary_upper, tuple(cones))


def l1_ball(center: np.ndarray, radius: np.ndarray) -> RegionRows:
    """``||(x - center) / radius||_1 <= 1``, ``(n,)`` each; entries of radius 0 are left to the bounding box.

    With the weights of :func:`_weights`: ``w_i |x_i - center_i| <= t_i``, ``sum_i t_i <= largest``.
    """
    n, (largest, weights) = len(center), _weights(radius)
    move, eye = sparse.diags(weights), sparse.eye(n)
    total = sparse.csr_matrix(np.concatenate([np.zeros(n), np.ones(n)])[None])
    matrix = sparse.vstack([sparse.hstack([move, -eye]), sparse.hstack([-move, -eye]), total], format="csr")
    upper = np.concatenate([weights * center, -weights * center, [largest]])
    return RegionRows(matrix, np.full(2 * n + 1, -np.inf), upper, np.zeros(n), np.full(n, largest))


def _weights(radius: np.ndarray) -> tuple[float, np.ndarray]:
    """The largest radius, and it over each radius (0 for a radius of 0): all ones where there is one radius."""
    largest = float(radius.max(initial=0.0))
    return largest, np.divide(largest, radius, out=np.zeros_like(radius), where=radius > 0)
