"""Boxes: every entry of an input moves in an interval of its own, as in an l_inf ball."""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.property.region import Region, dot
from kreludomain.property.region_rows import RegionRows


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
        radius = (self.upper / 2 - self.lower / 2).flatten(1) + self._slack
        return dot(a, self.center.flatten(1)) - dot(a.abs(), radius)

    def minimiser(self, coefficients: Tensor) -> Tensor:
        middle = self.center[:, None]
        return middle - coefficients.sign() * (self.upper / 2 - self.lower / 2)[:, None]

    def contains(self, x: Tensor) -> Tensor:
        return ((x >= self.lower) & (x <= self.upper)).flatten(1).all(1)

    def project(self, x: Tensor, dtype: torch.dtype = torch.float64) -> Tensor:
        return torch.minimum(torch.maximum(x, self.lower), self.upper)
