"""Pairs of inputs between which an expression falls although one entry grows alone: counterexamples to monotonicity.

Along the entry's line through a point, values on a grid show where the expression falls most. Points are random, or
follow the gradient of the difference between both ends of a step (the slope itself has none: it is constant in each
piece of the network).
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.attack.confirm import can_be_confirmed
from kreludomain.attack.pgd import multiplications
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.domain.slopes import Slope
from kreludomain.network import Runtime

#: Places on a line: over all of it, and near the point at shares of its length.
_GRID, _NEAR = 17, (1e-6, 1e-5, 1e-4, 1e-3, 1e-2)
#: Random points, points that follow the gradient and their steps, at most; and multiplications for the first.
_POINTS, _DESCENTS, _STEPS, _MULTIPLICATIONS = 512, 64, 40, 2e9
#: Pairs that onnxruntime is asked about, at most, of those found on the lines of a batch of points.
_MOST_CONFIRMED = 4
#: How far the expression has to fall in float64, relative to its size: well above rounding errors.
_FALL = 1e-11


@dataclass(frozen=True, eq=False)
class FallingPairs:
    """The search for pairs in the region of ``query`` (a batch of one) where ``slope``'s expression falls.

    It has to fall by more than ``tolerance`` for each unit of the entry. The network of ``slope`` may end before an
    activation that keeps order; that of the query, which ``runtime`` runs, has the last word.
    """

    slope: Slope
    query: Query
    runtime: Runtime
    tolerance: float = 0.0

    def search(self, seconds: float) -> Tensor | None:
        """A confirmed pair ``(2, *input_shape)``, the entry smaller in the first; or ``None``."""
        until = Deadline(min(self.query.deadline.at, time.monotonic() + seconds))
        if not can_be_confirmed(self.query, self.runtime):
            return None
        region, generator = self.query.region, torch.Generator().manual_seed(0)
        count = int(_MULTIPLICATIONS / multiplications(self.slope.network) / (_GRID + 2 * len(_NEAR)))
        found = self.among(region.center)
        for part in region.sample(max(8, min(_POINTS, count)), generator).split(64):
            if found is not None or until.passed:
                return found
            found = self.among(part)
        if found is None and not until.passed:
            found = self.among(self._descended(max(8, min(_DESCENTS, count)), generator, until))
        return found

    @torch.no_grad()
    def among(self, x: Tensor) -> Tensor | None:
        """A confirmed pair on the lines through points ``x`` ``(N, *input_shape)`` of the region, or ``None``."""
        low, high = self._ends(x)
        places = self._places(x, low, high)
        values = torch.stack([self._values(self._moved(x, place)) for place in places.unbind(1)], dim=1)
        falls, first, second = _largest_fall(values)
        size = 1.0 + values.abs().amax(1)
        for position in falls.argsort(descending=True)[:_MOST_CONFIRMED].tolist():
            if falls[position] > _FALL * size[position]:
                ends = places[position, [int(first[position]), int(second[position])]]
                pair = self._confirmed(x[position : position + 1], ends)
                if pair is not None:
                    return pair
        return None

    def _values(self, x: Tensor) -> Tensor:
        return self._raised(x, self.slope.network(x))

    def _raised(self, x: Tensor, outputs: Tensor) -> Tensor:
        """The expression in ``outputs`` at ``x``, and what the tolerance allows it to fall."""
        return outputs.double().flatten(1) @ self.slope.row + self.tolerance * x.flatten(1)[:, self.slope.feature]

    def _moved(self, x: Tensor, place: Tensor) -> Tensor:
        """Points with the entry at ``place`` ``(N,)``."""
        flat = x.flatten(1).clone()
        flat[:, self.slope.feature] = place.to(flat)
        return flat.view_as(x)

    def _ends(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Where the entry's line through each point enters and leaves the region, ``(N,)`` each."""
        region, feature = self.query.region, self.slope.feature
        here = x.flatten(1)[:, feature]
        ends = []
        for side in (region.lower, region.upper):
            end = side.flatten(1)[:, feature].expand_as(here).clone()
            if not region.is_box:
                inside, outside = here.clone(), end
                for _ in range(30):
                    end = torch.where(region.contains(self._moved(x, outside)), outside, (inside + outside) / 2)
                    is_in = region.contains(self._moved(x, end))
                    inside, outside = torch.where(is_in, end, inside), torch.where(is_in, outside, end)
                end = inside
            ends.append(end)
        return ends[0], ends[1]

    def _places(self, x: Tensor, low: Tensor, high: Tensor) -> Tensor:
        """Places on each line in their order, ``(N, places)``, numbers of the network's own type."""
        here, width = x.flatten(1)[:, self.slope.feature], high - low
        shares = torch.linspace(0, 1, _GRID, dtype=low.dtype)
        near = torch.tensor([sign * share for share in _NEAR for sign in (-1.0, 1.0)], dtype=low.dtype)
        grid = low[:, None] + shares * width[:, None]
        around = here[:, None] + near * width[:, None]
        places = torch.minimum(torch.maximum(torch.cat([grid, around], dim=1), low[:, None]), high[:, None])
        return places.to(self.runtime.dtype).to(low).sort(dim=1).values

    def _descended(self, count: int, generator: torch.Generator, until: Deadline) -> Tensor:
        """Random points, moved to where a step of random length along the entry falls."""
        region = self.query.region
        x = region.sample(count, generator)
        width = region.upper - region.lower
        length = 10 ** (-2 * torch.rand(count, generator=generator, dtype=x.dtype)) * self._width
        for step in range(_STEPS):
            if until.passed:
                break
            x = x.detach().requires_grad_()
            ahead = self._ahead(x, length)
            rise = (self.slope.network(ahead).flatten(1) - self.slope.network(x).flatten(1)) @ self.slope.row
            (gradient,) = torch.autograd.grad(rise.sum(), x)
            x = region.project(x.detach() - 0.2 * (1 - step / _STEPS) * width * gradient.sign())
        return x.detach()

    def _ahead(self, x: Tensor, length: Tensor) -> Tensor:
        step = torch.zeros_like(x).flatten(1)
        step[:, self.slope.feature] = length
        return torch.minimum(x + step.view_as(x), self.query.region.upper)

    @cached_property
    def _width(self) -> float:
        region = self.query.region
        return float((region.upper - region.lower).flatten()[self.slope.feature])

    def _confirmed(self, x: Tensor, ends: Tensor) -> Tensor | None:
        """The pair on the line through ``x`` with the entry at ``ends`` ``(2,)``, if it is a counterexample.

        Both inputs are of the network's own type and lie in the region; the expression falls in float64, by more than
        rounding, and in onnxruntime.
        """
        region, dtype = self.query.region, self.runtime.dtype
        base = region.rounded(x, dtype)
        pair = region.rounded(self._moved(base.repeat(2, *[1] * len(region.shape)).to(x), ends), dtype)
        represented = region.represented(pair)
        differ = (represented[0] != represented[1]).sum() == 1
        if not bool(differ and torch.isfinite(pair).all() and region.contains(represented).all()):
            return None
        values = self._raised(represented, self.query.network(represented))
        if not bool(values[0] - values[1] > _FALL * (1 + values.abs().max())):
            return None
        outputs = self._raised(pair.double(), self.runtime(pair))
        return pair if bool(outputs[1] < outputs[0]) else None


def _largest_fall(values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The largest fall from an earlier to a later of values ``(N, places)``, ``(N,)``, and both positions."""
    highest, before = values.cummax(1)
    falls, second = (highest - values).max(1)
    return falls, before.gather(1, second[:, None])[:, 0], second
