"""Piecewise linear functions of one number, and their sums of ReLUs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from kreludomain.activations import Relu
from kreludomain.network.graph import Node
from kreludomain.network.lowering.entrywise import Decomposition
from kreludomain.network.operators import Activation, Scale, Shape, Sum

#: Two numbers are taken for one if they differ by this share: constants of files are float32, computed with in float64.
CLOSE = 1e-12


@dataclass(frozen=True, eq=False)
class Piecewise:
    """``slopes[i] * x + intercepts[i]`` between ``knots[i - 1]`` and ``knots[i]``; it may jump at a knot."""

    knots: np.ndarray
    slopes: np.ndarray
    intercepts: np.ndarray

    @classmethod
    def line(cls, slope: float, intercept: float) -> Piecewise:
        """``slope * x + intercept``."""
        return cls(np.zeros(0), np.array([slope]), np.array([intercept]))

    def scaled(self, multiplier: float, shift: float) -> Piecewise:
        """``multiplier * f + shift``."""
        return Piecewise(self.knots, multiplier * self.slopes, multiplier * self.intercepts + shift)

    def __add__(self, other: Piecewise) -> Piecewise:
        knots = np.union1d(self.knots, other.knots)
        first, second = self._refined(knots), other._refined(knots)
        return Piecewise(knots, first.slopes + second.slopes, first.intercepts + second.intercepts)

    def __sub__(self, other: Piecewise) -> Piecewise:
        return self + other.scaled(-1.0, 0.0)

    def where_positive(self, this: Piecewise, that: Piecewise) -> Piecewise:
        """``this`` where the function is positive, ``that`` elsewhere."""
        with np.errstate(divide="ignore", invalid="ignore"):
            zeros = -self.intercepts / self.slopes
        ends = np.concatenate([[-np.inf], self.knots, [np.inf]])
        inside = zeros[(ends[:-1] < zeros) & (zeros < ends[1:])]
        knots = np.unique(np.concatenate([self.knots, inside, this.knots, that.knots]))
        sign, first, second = (f._refined(knots) for f in (self, this, that))
        positive = sign.slopes * _inner(knots) + sign.intercepts > 0
        return Piecewise(
            knots,
            np.where(positive, first.slopes, second.slopes),
            np.where(positive, first.intercepts, second.intercepts),
        )

    def relu(self) -> Piecewise:
        """``max(f, 0)``."""
        return self.where_positive(self, Piecewise.line(0.0, 0.0))

    def maximum(self, other: Piecewise) -> Piecewise:
        """``max(f, g)``."""
        return (self - other).where_positive(self, other)

    @property
    def jump(self) -> float | None:
        """The first point where the function jumps, ``None`` if it is continuous."""
        left = self.slopes[:-1] * self.knots + self.intercepts[:-1]
        right = self.slopes[1:] * self.knots + self.intercepts[1:]
        jumps = np.abs(left - right) > CLOSE * (1 + np.abs(left) + np.abs(self.slopes[:-1] * self.knots))
        return float(self.knots[jumps][0]) if jumps.any() else None

    def simplified(self) -> Piecewise:
        """Without knots where nothing changes."""
        slope, intercept = np.diff(self.slopes), np.diff(self.intercepts)
        kept = (np.abs(slope) > CLOSE * (1 + np.abs(self.slopes[1:]))) | (
            np.abs(intercept) > CLOSE * (1 + np.abs(self.intercepts[1:]))
        )
        chosen = np.concatenate([[True], kept])
        return Piecewise(self.knots[kept], self.slopes[chosen], self.intercepts[chosen])

    def same(self, knots: Sequence[float], slopes: Sequence[float], tolerance: float) -> bool:
        """Whether knots and slopes are these, up to a tolerance."""
        given = (np.asarray(knots), np.asarray(slopes))
        return len(knots) == len(self.knots) and all(
            np.allclose(own, other, rtol=tolerance, atol=tolerance)
            for own, other in zip((self.knots, self.slopes), given, strict=True)
        )

    def _refined(self, knots: np.ndarray) -> Piecewise:
        """The same function with more knots."""
        piece = np.searchsorted(self.knots, _inner(knots))
        return Piecewise(knots, self.slopes[piece], self.intercepts[piece])

    def relus(self, shape: Shape) -> Decomposition:
        """The function as ``c + s x + sum_i t_i ReLU(x - k_i)``, of every entry; it has to be continuous."""
        function = self.simplified()
        turns = np.diff(function.slopes)

        def nodes(name: str, source: str) -> tuple[Node, ...]:
            made: list[Node] = []
            parts = []
            if function.slopes[0] or function.intercepts[0] or not len(turns):
                made.append(_scale(f"{name}/line", source, shape, function.slopes[0], function.intercepts[0]))
                parts.append(made[-1].name)
            for i, (knot, turn) in enumerate(zip(function.knots, turns, strict=True)):
                if knot:
                    made.append(_scale(f"{name}/moved{i}", source, shape, 1.0, -knot))
                made.append(Node(f"{name}/relu{i}", Activation(Relu(), shape), (made[-1].name if knot else source,)))
                if turn != 1:
                    made.append(_scale(f"{name}/turn{i}", made[-1].name, shape, turn, 0.0))
                parts.append(made[-1].name)
            last = made.pop() if len(parts) == 1 else Node(name, Sum((1,) * len(parts), shape), tuple(parts))
            return (*made, Node(name, last.operator, last.inputs))

        return nodes


def _inner(knots: np.ndarray) -> np.ndarray:
    """A point inside of each interval between knots."""
    if not len(knots):
        return np.zeros(1)
    return np.concatenate([[knots[0] - 1], (knots[:-1] + knots[1:]) / 2, [knots[-1] + 1]])


def _scale(name: str, source: str, shape: Shape, multiplier: float, shift: float) -> Node:
    factor, added = (torch.tensor(float(v), dtype=torch.float64) for v in (multiplier, shift))
    return Node(name, Scale(factor, added if shift else None, shape), (source,))
