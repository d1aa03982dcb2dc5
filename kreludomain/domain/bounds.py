"""Lower and upper bounds of the values of one node, and of all nodes."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, eq=False)
class Bounds:
    """``lower <= value <= upper`` of a node over each of ``B`` regions; both are ``(B, *shape)``."""

    lower: Tensor
    upper: Tensor

    @classmethod
    def computed(cls, lower: Tensor, upper: Tensor) -> Bounds:
        """What arithmetic came to. A number that is not finite, where float64 overflowed on the way, is no bound: the
        side is infinite there, so that a neuron with such bounds is unstable."""
        lower = torch.where(lower.isfinite(), lower, -torch.inf)
        return cls(lower, torch.where(upper.isfinite(), upper, torch.inf))

    @property
    def width(self) -> Tensor:
        """``upper - lower``."""
        return self.upper - self.lower

    @property
    def unstable(self) -> Tensor:
        """Where the sign is not decided: ``lower < 0 < upper``."""
        return (self.lower < 0) & (self.upper > 0)

    @property
    def kinked(self) -> Tensor:
        """Where a ReLU's kink is within the bounds: unstable, or one bound is exactly 0.

        A bound of exactly 0 comes from a split. The layers before do not imply it, so the ReLU's joint relaxations add
        something although its sign is decided.
        """
        return (self.lower <= 0) & (self.upper >= 0) & (self.lower < self.upper)

    def __and__(self, other: Bounds) -> Bounds:
        """The tighter of both, entry by entry; where rounding made two sound bounds cross, their meeting point."""
        lower, upper = torch.maximum(self.lower, other.lower), torch.minimum(self.upper, other.upper)
        return Bounds(torch.minimum(lower, upper), torch.maximum(lower, upper))

    def tightened(self, indices: Tensor, lower: Tensor, upper: Tensor) -> Bounds:
        """These bounds, intersected at flat positions ``indices`` ``(m,)`` with ``lower`` and ``upper``, ``(B, m)``."""
        low, high = self.lower.flatten(1).clone(), self.upper.flatten(1).clone()
        low[:, indices], high[:, indices] = lower, upper
        return self & Bounds(low.view_as(self.lower), high.view_as(self.upper))

    def __getitem__(self, position: int) -> Bounds:
        """The bounds over region ``position``, as a batch of one."""
        return Bounds(self.lower[position : position + 1], self.upper[position : position + 1])


class LayerBounds(Mapping[str, Bounds]):
    """The bounds of every node by the node's name, in topological order."""

    def __init__(self, bounds: Mapping[str, Bounds]) -> None:
        self._bounds = dict(bounds)

    def __getitem__(self, name: str) -> Bounds:
        return self._bounds[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._bounds)

    def __len__(self) -> int:
        return len(self._bounds)

    def __repr__(self) -> str:
        widths = ", ".join(f"{name}: {float(b.width.mean()):.4g}" for name, b in self._bounds.items())
        return f"LayerBounds(mean widths: {widths})"
