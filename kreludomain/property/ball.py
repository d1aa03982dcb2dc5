"""l_1 and l_2 balls inside a box, with a radius for each entry.

All is computed in the ball's own units, ``u = (x - middle) / radius``, in which it is the unit ball.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.property.region import Region, dot
from kreludomain.property.region_rows import NormCone, RegionRows, l1_ball

#: How much nearer than its radius a side of the box may be, relatively, and still not count as cutting the ball: sides
#: are ``middle - radius`` and ``middle + radius``, rounded. The ball without its box is the larger set.
_NOT_CUT = 1e-10


@dataclass(frozen=True, eq=False)
class Ball(Region):
    """``||(x - middle) / radius||_p <= 1`` inside the box: an entry moves by at most its ``radius``, alone.

    ``middle`` and ``radius`` are ``(B, *shape)``; one number for ``radius`` is that of every entry, and the region is
    ``||x - middle||_p <= radius``. Entries of radius 0 are fixed at the middle. The middle lies in the box.
    """

    middle: Tensor
    radius: Tensor

    def __post_init__(self) -> None:
        super().__post_init__()
        given = torch.as_tensor(self.radius, dtype=self.lower.dtype, device=self.lower.device)
        if given.dim() and given.shape != self.lower.shape:
            raise InputError(f"region: radius is {tuple(given.shape)}, lower is {tuple(self.lower.shape)}")
        if not bool(((given >= 0) & torch.isfinite(given)).all()):
            raise InputError(f"region: epsilon {_worst(given)} is not a number from 0 up")
        if self.middle.shape != self.lower.shape or not bool(
            ((self.middle >= self.lower) & (self.middle <= self.upper)).all()
        ):
            raise InputError("region: the middle of the ball lies outside its box")
        radius = given.expand(self.lower.shape)
        object.__setattr__(self, "radius", radius)
        for side in ("lower", "upper"):
            object.__setattr__(self, side, torch.where(radius > 0, getattr(self, side), self.middle))

    @property
    def center(self) -> Tensor:
        return self.middle

    @property
    @abstractmethod
    def norm(self) -> float:
        """The ``p`` of the ball's norm."""

    @abstractmethod
    def _least(self, g: Tensor) -> Tensor:
        """``min g . u`` over the ball in its own units, up to rounding, ``(B, m)``, for ``g`` of ``(B, m, n)``."""

    @abstractmethod
    def _lowest(self, g: Tensor) -> Tensor:
        """Points ``u`` of the ball in its own units where ``g . u`` is smallest, ``(B, m, n)``."""

    @cached_property
    def _flat_radius(self) -> Tensor:
        return self.radius.flatten(1)

    @cached_property
    def _room(self) -> tuple[Tensor, Tensor]:
        """How far each entry can go down and up within the box, in the ball's own units, ``(B, n)`` each."""
        moves = self._flat_radius > 0
        unit = torch.where(moves, self._flat_radius, 1.0)
        sides = (self.middle - self.lower, self.upper - self.middle)
        down, up = (torch.where(moves, side.flatten(1) / unit, 1.0) for side in sides)
        return down, up

    def concretise(self, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(2)
        moved = self._least(a * self._flat_radius[:, None])
        return dot(a, self.middle.flatten(1)) + moved - dot(a.abs(), self._slack)

    def minimiser(self, coefficients: Tensor) -> Tensor:
        radius = self._flat_radius[:, None]
        moved = radius * self._lowest(coefficients.flatten(2) * radius)
        result: Tensor = self.middle[:, None] + moved.unflatten(2, self.shape)
        return result

    def contains(self, x: Tensor) -> Tensor:
        box = ((x >= self.lower) & (x <= self.upper)).flatten(1).all(1)
        # In units of the largest radius, so that a ball of one radius is compared as it is written.
        largest = self._flat_radius.amax(1)
        away = (x - self.middle).flatten(1)
        weighted = torch.where(away == 0, 0.0, away * (largest[:, None] / self._flat_radius))
        return box & (_length(weighted, self.norm) <= largest)

    def project(self, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        # Towards the middle along the ray: stays in the box, which is convex and holds the middle. Short of the surface
        # by what rounding the entries to dtype can move a point. Entries whose radius is next to nothing beside that
        # stay at the middle; they would leave the others no way to go.
        inside = torch.minimum(torch.maximum(x, self.lower), self.upper)
        largest = torch.maximum(self.lower.abs(), self.upper.abs()).flatten(1)
        rounding = 2 * torch.finfo(dtype).eps * largest / self._flat_radius
        moves = (self._flat_radius > 0) & (rounding < math.prod(self.shape) ** (-1 / self.norm))
        away = torch.where(moves, (inside - self.middle).flatten(1), 0.0)
        length = _length(torch.where(moves, away / self._flat_radius, 0.0), self.norm).clamp(min=1e-300)
        factor = ((1 - _length(torch.where(moves, rounding, 0.0), self.norm)).clamp(min=0.0) / length).clamp(max=1.0)
        moved: Tensor = self.middle + (away * factor[:, None]).unflatten(1, self.shape)
        return torch.minimum(torch.maximum(moved, self.lower), self.upper)


@dataclass(frozen=True, eq=False)
class L1Ball(Ball):
    """``||(x - middle) / radius||_1 <= 1``, cut by the box."""

    @property
    def norm(self) -> float:
        return 1

    def program_rows(self) -> RegionRows | None:
        return l1_ball(_numpy(self.middle), _numpy(self.radius))

    def _least(self, g: Tensor) -> Tensor:
        gain, spent, _ = self._spent(g)
        return -(gain * spent).sum(2)

    def _lowest(self, g: Tensor) -> Tensor:
        _, spent, order = self._spent(g)
        return -torch.zeros_like(spent).scatter_(2, order, spent) * g.sign()

    def _spent(self, g: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A fractional knapsack: the budget of 1 goes to the steepest entries first, each up to the side of the box.

        Gains in order, the budget spent on each, and the order, ``(B, m, n)`` each.
        """
        down, up = self._room
        capacity = torch.where(g > 0, down[:, None], up[:, None])
        gain, order = g.abs().expand(capacity.shape).sort(dim=2, descending=True)
        used = capacity.gather(2, order)
        before = used.cumsum(2) - used
        return gain, torch.minimum(used, (1 - before).clamp(min=0)), order


@dataclass(frozen=True, eq=False)
class L2Ball(Ball):
    """``||(x - middle) / radius||_2 <= 1``, cut by the box."""

    @property
    def norm(self) -> float:
        return 2

    def program_rows(self) -> RegionRows | None:
        return RegionRows.conic([NormCone.ball(_numpy(self.middle), _numpy(self.radius))])

    def _least(self, g: Tensor) -> Tensor:
        length = _length(g, 2)
        if bool((torch.minimum(*self._room) >= 1 - _NOT_CUT).all()):
            return -length
        unit = self._unit(g, length)
        t, z = self._cut(unit)
        cut = (unit * z + z * z / (2 * t)).sum(2) - 1 / (2 * t[..., 0])
        return length * cut.clamp(min=-1.0)

    def _lowest(self, g: Tensor) -> Tensor:
        return self._cut(self._unit(g, _length(g, 2)))[1]

    @staticmethod
    def _unit(g: Tensor, length: Tensor) -> Tensor:
        return g / torch.where(length > 0, length, 1.0)[..., None]

    def _cut(self, g: Tensor) -> tuple[Tensor, Tensor]:
        """The best multiplier for ``min g . z`` over ``||z|| <= 1`` within the box, for ``g`` of length 1, and the
        minimiser.

        The Lagrangian's value is a bound for every multiplier ``mu > 0``; with ``t = 1 / (2 mu)`` its minimiser
        ``clamp(-t g)`` grows in length with ``t``, so bisection finds the best. At ``t = 1`` it has at most length 1.
        """
        down, up = self._room
        low, high = -down[:, None], up[:, None]
        small = torch.ones_like(g[..., 0])
        large = torch.full_like(small, 1e12)
        for _ in range(40):  # geometric bisection over 12 decades: t to ten digits, its value to more
            middle = torch.sqrt(small * large)
            z = torch.minimum(torch.maximum(-g * middle[..., None], low), high)
            outside = (z * z).sum(2) > 1
            small, large = torch.where(outside, small, middle), torch.where(outside, middle, large)
        t = large[..., None]
        return t, torch.minimum(torch.maximum(-g * t, low), high)


def _length(u: Tensor, norm: float) -> Tensor:
    """The norms of the last axis."""
    result: Tensor = torch.linalg.vector_norm(u, ord=norm, dim=-1)
    return result


def _worst(radius: Tensor) -> float:
    """An entry that is no radius."""
    return float(radius[~((radius >= 0) & torch.isfinite(radius))].flatten()[0])


def _numpy(value: Tensor) -> NDArray[np.float64]:
    """The values of a batch of one, flat."""
    return value.detach().flatten().double().cpu().numpy()
