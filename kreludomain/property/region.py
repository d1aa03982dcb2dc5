"""Sets of inputs: what every region is. Boxes and balls are in files of their own.

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
from kreludomain.property.region_rows import RegionRows
from kreludomain.rounding import ROUNDING, gamma, saturated


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
        return self.lower / 2 + self.upper / 2  # their sum may overflow

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
        """The region in another dtype, on another device, so far as that reaches; rounded to nearest, so for estimates
        only."""
        return self._map(lambda value: saturated(value, dtype).to(device))

    def __getitem__(self, position: int) -> Region:
        """Region ``position`` of the batch, as a batch of one."""
        return self._map(lambda value: value[position : position + 1])

    def repeated(self, count: int) -> Region:
        """A batch of one, ``count`` times."""
        return self._map(lambda value: value.expand(count, *value.shape[1:]))

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
        return (self.lower / 2 + self.upper / 2).to(dtype)

    def sample(self, count: int, generator: torch.Generator | None = None) -> Tensor:
        """``count`` random points of a batch of one (:meth:`fit`), ``(count, *shape)``: drawn in the box, projected."""
        unit = torch.rand((count, *self.shape), generator=generator, dtype=self.lower.dtype).to(self.lower.device)
        return self.project(self.lower + unit * (self.upper - self.lower))


def dot(a: Tensor, x: Tensor) -> Tensor:
    """``(B or 1, m, n)`` times ``(B, n)`` to ``(B, m)``."""
    if a.shape[0] == 1:
        return x @ a[0].T
    return torch.einsum("bmn,bn->bm", a, x)
