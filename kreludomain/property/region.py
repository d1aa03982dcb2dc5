"""Sets of inputs: boxes, and l_inf, l_1, l_2 balls with optional clipping.

Methods ask a region for the smallest value of ``a . x`` over it (*concretisation*), which is all that a certified bound
rests on. Every region carries its bounding box; a ball cut by a box is bounded exactly, not only by the looser of the
two. Linear and conic programs ask it for its rows (:meth:`Region.program_rows`), which make their bounds tight.

Regions come in batches: tensors are ``(B, *input_shape)``.
"""

from __future__ import annotations

import dataclasses
import math
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import Shape
from kreludomain.property.region_rows import NormCone, RegionRows, l1_ball
from kreludomain.rounding import ROUNDING, gamma


@dataclass(frozen=True, eq=False)
class Region(ABC):
    """``B`` convex sets of inputs, each inside its box ``lower <= x <= upper``.

    A region of your own is a frozen dataclass that has the four abstract methods. Its tensors have the batch dimension
    first, as ``lower`` and ``upper`` do. Whether it is as tight in a linear program as it can be is up to
    :meth:`program_rows`.
    """

    lower: Tensor
    upper: Tensor

    def __post_init__(self) -> None:
        if self.lower.shape != self.upper.shape:
            raise InputError(f"region: lower is {tuple(self.lower.shape)}, upper is {tuple(self.upper.shape)}")
        if not (torch.isfinite(self.lower).all() and torch.isfinite(self.upper).all()):
            raise InputError("region: bounds contain NaN or infinite values")
        empty = (self.lower > self.upper).flatten()
        if empty.any():
            entry = int(empty.nonzero()[0])
            low, high = float(self.lower.flatten()[entry]), float(self.upper.flatten()[entry])
            raise InputError(f"region: empty, lower {low:g} > upper {high:g} at entry {entry}")

    @property
    def batch(self) -> int:
        """``B``, how many sets there are; of a region with its batch dimension, which :meth:`fit` adds."""
        return self.lower.shape[0]

    @property
    def shape(self) -> Shape:
        """Shape of one input, without batch."""
        return tuple(self.lower.shape[1:])

    @property
    def center(self) -> Tensor:
        """A point of every region, ``(B, *shape)``."""
        return (self.lower + self.upper) / 2

    def fit(self, network: Network) -> Region:
        """The region in the network's dtype, on its device, with a batch dimension (added where it is missing).

        Raises :class:`InputError` unless the region's shape is the network's input shape.
        """
        wanted, region = network.input.shape, self
        if tuple(self.lower.shape) == wanted:
            region = self._map(lambda value: value[None])
        if region.shape != wanted or not region.batch:
            raise InputError(f"region: shape {tuple(self.lower.shape)}, the network takes (batch,) + {wanted}")
        return region._map(lambda value: value.to(dtype=network.dtype, device=network.device))

    def to(self, dtype: torch.dtype, device: torch.device) -> Region:
        """The region in another dtype, on another device; rounded to nearest, so for estimates only."""
        return self._map(lambda value: value.to(dtype=dtype, device=device))

    def __getitem__(self, position: int) -> Region:
        """Region ``position`` of the batch, as a batch of one."""
        return self._map(lambda value: value[position : position + 1])

    def _map(self, change: Callable[[Tensor], Tensor]) -> Region:
        """The same region with ``change`` applied to each of its tensors."""
        values = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return dataclasses.replace(self, **{n: change(v) for n, v in values.items() if isinstance(v, Tensor)})

    @property
    def is_box(self) -> bool:
        """Whether the region is its bounding box, so that entries move independently and it can be split into boxes."""
        return False

    def program_rows(self) -> RegionRows | None:
        """The shape of a region that is a batch of one, for linear and conic programs; ``None``: it has no such rows.

        Without rows, programs have the bounding box instead, and say so in a note. Rows that are wrong can make a bound
        loose, never unsound: certified values are computed by ``concretise``.
        """
        return None

    @abstractmethod
    def concretise(self, coefficients: Tensor) -> Tensor:
        """``min a . x`` over the region, ``(B, m)``, for ``a`` of shape ``(B or 1, m, *shape)``; never too large."""

    @abstractmethod
    def minimiser(self, coefficients: Tensor) -> Tensor:
        """Points ``(B, m, *shape)`` where ``a . x`` comes within rounding of its minimum over the region."""

    def backward(self, coefficients: Tensor) -> tuple[tuple[Tensor, ...], Tensor]:
        """The last step of a back-substitution: nothing goes further, :meth:`concretise` is the constant."""
        return (), self.concretise(coefficients)

    @cached_property
    def _slack(self) -> Tensor:
        """The rounding error of ``a . x`` for each unit of ``|a|``, at most, ``(B, n)``."""
        relative = max(ROUNDING, gamma(math.prod(self.shape)))
        return relative * torch.maximum(self.lower.abs(), self.upper.abs()).flatten(1)

    @abstractmethod
    def contains(self, x: Tensor) -> Tensor:
        """Whether points ``(N, *shape)`` lie in the region (batch of one or ``N``), exactly and without tolerance."""

    @abstractmethod
    def project(self, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        """Points ``(N, *shape)`` moved into the region (batch of one or ``N``).

        They stay inside when they are rounded to ``dtype``, as long as the box allows it.
        """

    def rounded(self, x: Tensor, dtype: torch.dtype = torch.float32) -> Tensor:
        """Points near ``x``, ``(N, *shape)`` in ``dtype``, that lie in the region if any so near do (see
        ``contains``); an entry whose interval holds no number of ``dtype`` gets the nearest one."""
        point = self.project(x, dtype).to(dtype)
        up = torch.tensor(float("inf"), dtype=dtype, device=point.device)
        point = torch.where(point.to(self.lower) < self.lower, torch.nextafter(point, up), point)
        point = torch.where(point.to(self.upper) > self.upper, torch.nextafter(point, -up), point)
        return torch.where(self.unrepresentable(dtype), self._nearest(dtype), point)

    def unrepresentable(self, dtype: torch.dtype) -> Tensor:
        """Which entries' intervals hold no number of ``dtype``, ``(B, *shape)``: no input of that type is inside.

        A feature that is fixed at 0.1, for one, where a network takes float32.
        """
        least = self.lower.to(dtype)
        up = torch.tensor(float("inf"), dtype=dtype, device=least.device)
        least = torch.where(least.to(self.lower) < self.lower, torch.nextafter(least, up), least)
        return least.to(self.lower) > self.upper

    def represented(self, x: Tensor) -> Tensor:
        """The points ``(N, *shape)``, in the region's dtype, that inputs ``x`` of a network's own type stand for.

        They are ``x``, but for entries whose intervals hold no number of ``x``'s type: where ``x`` has the number
        nearest to such an interval, the interval's value nearest to ``x``, which is at most one rounding away.
        """
        point, inside = x.to(self.lower), torch.minimum(torch.maximum(x.to(self.lower), self.lower), self.upper)
        return torch.where(self.unrepresentable(x.dtype) & (x == self._nearest(x.dtype)), inside, point)

    def _nearest(self, dtype: torch.dtype) -> Tensor:
        """The number of ``dtype`` nearest to the middle of each entry's interval, ``(B, *shape)``."""
        return (self.lower + (self.upper - self.lower) / 2).to(dtype)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` random points of a batch of one (:meth:`fit`), ``(count, *shape)``: drawn in the box, projected."""
        unit = torch.rand((count, *self.shape), generator=generator, dtype=self.lower.dtype).to(self.lower.device)
        return self.project(self.lower + unit * (self.upper - self.lower))


def _dot(a: Tensor, x: Tensor) -> Tensor:
    """``(B or 1, m, n)`` times ``(B, n)`` to ``(B, m)``."""
    if a.shape[0] == 1:
        return x @ a[0].T
    return torch.einsum("bmn,bn->bm", a, x)


@dataclass(frozen=True, eq=False)
class Box(Region):
    """``lower <= x <= upper``: an l_inf ball, for one."""

    @property
    def is_box(self) -> bool:
        return True

    def program_rows(self) -> RegionRows | None:
        return RegionRows.none(math.prod(self.shape))

    def concretise(self, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(2)
        radius = ((self.upper - self.lower) / 2).flatten(1) + self._slack
        return _dot(a, self.center.flatten(1)) - _dot(a.abs(), radius)

    def minimiser(self, coefficients: Tensor) -> Tensor:
        middle = self.center[:, None]
        return middle - coefficients.sign() * ((self.upper - self.lower) / 2)[:, None]

    def contains(self, x: Tensor) -> Tensor:
        return ((x >= self.lower) & (x <= self.upper)).flatten(1).all(1)

    def project(self, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.minimum(torch.maximum(x, self.lower), self.upper)


@dataclass(frozen=True, eq=False)
class Ball(Region):
    """``||x - middle||_p <= radius`` inside the box; ``middle`` is ``(B, *shape)`` and lies in the box."""

    middle: Tensor
    radius: float

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 <= self.radius < float("inf"):
            raise InputError(f"region: epsilon {self.radius} is not a number from 0 up")
        if self.middle.shape != self.lower.shape or not bool(
            ((self.middle >= self.lower) & (self.middle <= self.upper)).all()
        ):
            raise InputError("region: the middle of the ball lies outside its box")

    @property
    def center(self) -> Tensor:
        return self.middle

    @property
    @abstractmethod
    def norm(self) -> float:
        """The ``p`` of the ball's norm."""

    @abstractmethod
    def _concretise(self, a: Tensor) -> Tensor:
        """``min a . x`` up to rounding, for ``a`` of shape ``(B or 1, m, n)``."""

    def concretise(self, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(2)
        return self._concretise(a) - _dot(a.abs(), self._slack)

    def distance(self, x: Tensor) -> Tensor:
        """``||x - middle||_p`` of points ``(N, *shape)``."""
        result: Tensor = torch.linalg.vector_norm((x - self.middle).flatten(1), ord=self.norm, dim=1)
        return result

    def contains(self, x: Tensor) -> Tensor:
        box = ((x >= self.lower) & (x <= self.upper)).flatten(1).all(1)
        return box & (self.distance(x) <= self.radius)

    def _room(self) -> tuple[Tensor, Tensor]:
        """How far each entry can go down and up from the middle within the box, ``(B, n)`` each."""
        return (self.middle - self.lower).flatten(1), (self.upper - self.middle).flatten(1)

    def project(self, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        # Towards the middle along the ray: stays in the box, which is convex and holds the middle. Short of the surface
        # by what rounding the entries to dtype can move a point.
        inside = torch.minimum(torch.maximum(x, self.lower), self.upper)
        largest = float(torch.maximum(self.lower.abs(), self.upper.abs()).max())
        slack = 2 * torch.finfo(dtype).eps * largest * math.prod(self.shape) ** (1 / self.norm)
        factor = (max(self.radius - slack, 0.0) / self.distance(inside).clamp(min=1e-300)).clamp(max=1.0)
        moved = self.middle + (inside - self.middle) * factor.reshape(-1, *[1] * len(self.shape))
        return torch.minimum(torch.maximum(moved, self.lower), self.upper)


@dataclass(frozen=True, eq=False)
class L1Ball(Ball):
    """``||x - middle||_1 <= radius``, cut by the box."""

    @property
    def norm(self) -> float:
        return 1

    def program_rows(self) -> RegionRows | None:
        return l1_ball(self.middle.flatten().double().cpu().numpy(), self.radius)

    def _concretise(self, a: Tensor) -> Tensor:
        gain, spent, _ = self._spent(a)
        return _dot(a, self.middle.flatten(1)) - (gain * spent).sum(2)

    def minimiser(self, coefficients: Tensor) -> Tensor:
        a = coefficients.flatten(2)
        _, spent, order = self._spent(a)
        moved = torch.zeros_like(spent).scatter_(2, order, spent) * a.sign()
        result: Tensor = self.middle[:, None] - moved.unflatten(2, self.shape)
        return result

    def _spent(self, a: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """A fractional knapsack: the budget goes to the steepest coordinates first, each up to the side of the box.

        Gains in order, the budget spent on each, and the order, ``(B, m, n)`` each.
        """
        down, up = self._room()
        capacity = torch.where(a > 0, down[:, None], up[:, None])
        gain, order = a.abs().expand(capacity.shape).sort(dim=2, descending=True)
        used = capacity.gather(2, order)
        before = used.cumsum(2) - used
        return gain, torch.minimum(used, (self.radius - before).clamp(min=0)), order


@dataclass(frozen=True, eq=False)
class L2Ball(Ball):
    """``||x - middle||_2 <= radius``, cut by the box."""

    @property
    def norm(self) -> float:
        return 2

    def program_rows(self) -> RegionRows | None:
        return RegionRows.conic([NormCone.ball(self.middle, self.radius)])

    def _concretise(self, a: Tensor) -> Tensor:
        at_middle = _dot(a, self.middle.flatten(1))
        down, up = self._room()
        whole = -self.radius * torch.linalg.vector_norm(a, dim=2)
        if bool((torch.minimum(down, up) >= self.radius).all()):
            result: Tensor = at_middle + whole
            return result
        t, z = self._cut(a, -down[:, None], up[:, None])
        cut = (a * z + z * z / (2 * t)).sum(2) - self.radius**2 / (2 * t[..., 0])
        return at_middle + torch.maximum(whole, cut)

    def minimiser(self, coefficients: Tensor) -> Tensor:
        down, up = self._room()
        _, z = self._cut(coefficients.flatten(2), -down[:, None], up[:, None])
        result: Tensor = self.middle[:, None] + z.unflatten(2, self.shape)
        return result

    def _cut(self, a: Tensor, low: Tensor, high: Tensor) -> tuple[Tensor, Tensor]:
        """The best multiplier for ``min a . z`` over ``low <= z <= high``, ``||z|| <= radius``, and the minimiser.

        The Lagrangian's value is a bound for every multiplier ``mu > 0``; with ``t = 1 / (2 mu)`` its minimiser
        ``clamp(-t a)`` grows in norm with ``t``, so bisection finds the best.
        """
        small = torch.zeros_like(a[..., 0] + low[..., 0])
        large = torch.full_like(small, 1e12)
        for _ in range(40):  # geometric bisection over 24 decades: t to ten digits, its value to more
            middle = torch.sqrt((small + 1e-12) * large)
            z = torch.minimum(torch.maximum(-a * middle[..., None], low), high)
            outside = (z * z).sum(2) > self.radius**2
            small, large = torch.where(outside, small, middle), torch.where(outside, middle, large)
        t = large[..., None]
        return t, torch.minimum(torch.maximum(-a * t, low), high)


def box(lower: Tensor, upper: Tensor) -> Box:
    """The box ``lower <= x <= upper``; tensors ``(B, *input_shape)``, or ``input_shape`` for one.

    Raises :class:`InputError` if it is empty or not finite.
    """
    return Box(_float64(lower), _float64(upper))


def ball(x: Tensor, epsilon: float, norm: str | float = "inf", clip: tuple[float, float] | None = None) -> Region:
    """All points within ``epsilon`` of ``x`` in the l_inf, l_1 or l_2 norm, clipped to ``clip = (low, high)``.

    ``x`` is ``(B, *input_shape)``, or ``input_shape`` for one. Raises :class:`InputError` for an epsilon below zero,
    another norm, or an ``x`` that an l_1 or l_2 ball is clipped away from.
    """
    middle = _float64(x)
    if not (isinstance(epsilon, int | float) and 0 <= epsilon < float("inf")):
        raise InputError(f"region: epsilon {epsilon!r} is not a number from 0 up")
    kinds = {"inf": None, "1": L1Ball, "2": L2Ball}
    name = {"inf": "inf", "1": "1", "1.0": "1", "2": "2", "2.0": "2"}.get(str(norm))
    if name is None:
        raise InputError(f"region: norm {norm!r} is not one of inf, 1, 2")
    lower, upper = middle - epsilon, middle + epsilon
    if clip is not None:
        if len(clip) != 2 or not clip[0] <= clip[1]:
            raise InputError(f"region: clip {list(clip)} is empty: a low and a high value are expected")
        lower, upper = lower.clamp(min=clip[0]), upper.clamp(max=clip[1])
    kind = kinds[name]
    if kind is None:
        return Box(lower, upper)
    if ((middle < lower) | (middle > upper)).any():
        raise InputError(f"region: the middle of an l_{name} ball lies outside clip {list(clip or ())}")
    return kind(lower, upper, middle, float(epsilon))


def _float64(value: Tensor) -> Tensor:
    return torch.as_tensor(value, dtype=torch.float64)
