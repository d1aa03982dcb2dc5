"""Norms of points in a program: ``||u||_p <= norm`` with ``u`` in [-1, 1]^n, and ``norm`` in [0, 1] minimised.

For p = 1 and inf that is linear. For p = 2 each square is a column of its own, kept above its parabola by tangents,
``q_j >= 2 c u_j - c^2``, and ``sum_j q_j <= norm^2`` is minimised: always a relaxation, so a program's dual bound stays
a bound, and exact where tangents touch. Tangents in one variable each close in on a norm of many entries in a few
rounds, where planes that touch the ball would take a number that grows exponentially with them.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
from scipy import sparse

from kreludomain.programs import Affine, Model

#: Where the first tangents touch.
_FIRST = np.linspace(-1.0, 1.0, 9)


@dataclass
class LargestNorm:
    """The objective of a question: the largest norm of some points. ``cost`` is an expression of one entry."""

    norm: str
    cost: Affine
    points: Sequence[Affine]
    _model: Model
    _squares: Sequence[Affine] = field(default_factory=list)

    def lower_bound(self, bound: float) -> float:
        """A lower bound of the norm from one of the cost: at least 0, infinite if that is."""
        bound = max(bound, 0.0)
        return math.sqrt(bound) if self.norm == "2" else bound

    def add_tangents(self, at: np.ndarray, tolerance: float = 1e-9) -> bool:
        """Adds tangents where a program's point lies below a parabola; whether there was such a place."""
        below = False
        for point, square in zip(self.points, self._squares, strict=False):
            u, q = point.at(at), square.at(at)
            entries = np.flatnonzero(u * u - q > tolerance)
            if len(entries):
                self._tangents(point[entries], square[entries], u[entries])
                below = True
        return below

    def _tangents(self, u: Affine, q: Affine, at: np.ndarray) -> None:
        self._model.require(q - 2 * at * u, lower=-at * at)


def _inf(model: Model, u: Affine, norm: Affine) -> Affine | None:
    every = norm.through(sparse.csr_matrix(np.ones((len(u), 1))))
    model.require(every - u, lower=0.0)
    model.require(every + u, lower=0.0)
    return None


def _one(model: Model, u: Affine, norm: Affine) -> Affine | None:
    magnitude = model.variables(np.zeros(len(u)), np.ones(len(u)))
    model.require(magnitude - u, lower=0.0)
    model.require(magnitude + u, lower=0.0)
    model.require(norm - magnitude.total(), lower=0.0)
    return None


def _two(model: Model, u: Affine, norm: Affine) -> Affine | None:
    square = model.variables(np.zeros(len(u)), np.ones(len(u)))
    model.require(norm - square.total(), lower=0.0)
    return square


#: Variables and rows of each norm, by its name; they return the squares of the entries, where there are such.
NORMS: dict[str, Callable[[Model, Affine, Affine], Affine | None]] = {"1": _one, "2": _two, "inf": _inf}


def largest_norm(model: Model, points: Sequence[Affine], norm: str) -> LargestNorm:
    """Adds a variable that all points' norms are within, ready to be minimised."""
    cost = model.variables(np.zeros(1), np.ones(1))
    squares = [square for square in (NORMS[norm](model, u, cost) for u in points) if square is not None]
    largest = LargestNorm(norm, cost, points, model, squares)
    for u, square in zip(points, squares, strict=False):
        for at in _FIRST:
            largest._tangents(u, square, np.full(len(u), at))
    return largest
