"""Norms of points in a program: ``||u||_p <= size`` with ``u`` in [-1, 1]^n, and ``size`` in [0, 1] minimised.

For p = 1 and inf that is linear. For p = 2 each square is a column of its own, kept above its parabola by tangents,
``q_j >= 2 c u_j - c^2``, and ``sum_j q_j <= size^2`` is minimised: always a relaxation, so a program's dual bound stays
a bound, and exact where tangents touch. Tangents in one variable each close in on a norm of many entries in a few
rounds, where planes that touch the ball would take a number that grows exponentially with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from kreludomain.analysis.invert.milp import Affine, Milp
from kreludomain.errors import InputError

#: Where the first tangents touch.
_FIRST = np.linspace(-1.0, 1.0, 9)


@dataclass
class Size:
    """What a program minimises: the largest norm of some points. ``cost`` is an expression of one entry."""

    norm: str
    cost: Affine
    points: Sequence[Affine]
    _milp: Milp
    _squares: Sequence[Affine] = field(default_factory=list)

    def of_bound(self, bound: float) -> float:
        """The norm that a bound of the cost is: at least 0, infinite if it is."""
        bound = max(bound, 0.0)
        return math.sqrt(bound) if self.norm == "2" else bound

    def refine(self, at: np.ndarray, tolerance: float = 1e-9) -> bool:
        """Tangents where a program's point lies below a parabola; whether there was such a place."""
        below = False
        for point, square in zip(self.points, self._squares, strict=False):
            u, q = point.at(at), square.at(at)
            entries = np.flatnonzero(u * u - q > tolerance)
            if len(entries):
                self._tangents(point[entries], square[entries], u[entries])
                below = True
        return below

    def _tangents(self, u: Affine, q: Affine, at: np.ndarray) -> None:
        self._milp.require(q - 2 * at * u, lower=-at * at)


def _inf(milp: Milp, u: Affine, size: Affine) -> Affine | None:
    every = size.through(sparse.csr_matrix(np.ones((len(u), 1))))
    milp.require(every - u, lower=0.0)
    milp.require(every + u, lower=0.0)
    return None


def _one(milp: Milp, u: Affine, size: Affine) -> Affine | None:
    magnitude = milp.new(np.zeros(len(u)), np.ones(len(u)))
    milp.require(magnitude - u, lower=0.0)
    milp.require(magnitude + u, lower=0.0)
    milp.require(size - magnitude.total(), lower=0.0)
    return None


def _two(milp: Milp, u: Affine, size: Affine) -> Affine | None:
    square = milp.new(np.zeros(len(u)), np.ones(len(u)))
    milp.require(size - square.total(), lower=0.0)
    return square


#: What each norm adds to a program, by the norm's name; the squares, where there are such.
NORMS: dict[str, Callable[[Milp, Affine, Affine], Affine | None]] = {"1": _one, "2": _two, "inf": _inf}


def largest_norm(milp: Milp, points: Sequence[Affine], norm: str) -> Size:
    """The size that all points' norms are within, ready to be minimised."""
    cost = milp.new(np.zeros(1), np.ones(1))
    squares = [square for square in (NORMS[norm](milp, u, cost) for u in points) if square is not None]
    size = Size(norm, cost, points, milp, squares)
    for u, square in zip(points, squares, strict=False):
        for at in _FIRST:
            size._tangents(u, square, np.full(len(u), at))
    return size


def check_norm(norm: str | float) -> str:
    """The norm by its name: 1, 2 or inf. Raises :class:`InputError` for another."""
    name = {"1.0": "1", "2.0": "2"}.get(str(norm), str(norm))
    if name not in NORMS:
        raise InputError(f"norm: {norm!r} is not one of {', '.join(NORMS)}")
    return name
