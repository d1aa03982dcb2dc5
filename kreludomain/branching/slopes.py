"""Branch and bound for the slope of a network along one input: is it nowhere negative?

A subproblem is a part of the region: where some neurons have signs that were assumed and, in a box of few inputs, where
the input lies in a smaller box. Its linear bounds say which further signs are decided, where in the box the assumed
ones can hold at all (it is cut to that), and whether they can (it is closed where not). It is closed, too, where the
bound of the slope (:mod:`kreludomain.domain.slopes`) is not negative. Otherwise the neuron that promises most is split
at zero, or the input that decides most of such neurons is halved. Where every sign that matters is decided and the
slope is negative, a linear program says whether the part has an inside; a point of it is where the network falls.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.optimize import linprog
from torch import Tensor

from kreludomain.branching.inputs import cut
from kreludomain.branching.open_set import OpenSet, Subproblem
from kreludomain.deadline import Deadline
from kreludomain.domain.batched_crown import BatchedCrown, LinearForms, RootRelaxation, batched_crown
from kreludomain.domain.slopes import Slope
from kreludomain.property import Box, Objective, Region
from kreludomain.rounding import gamma

#: Subproblems bounded at once, and the most that are open.
_BATCH, _MOST_OPEN = 64, 100_000
#: A box of at most so many inputs is halved, as long as more than so many neurons matter.
_FEW_INPUTS, _FEW_NEURONS = 3, 6
#: A box is not halved along an input that is narrower than this share of the whole.
_NARROWEST = 1e-6

#: Takes points ``(N, *input_shape)`` with a negative slope; whether one led to a counterexample.
Refute = Callable[[Tensor], bool]


@dataclass(frozen=True, eq=False)
class SlopeSearchResult:
    """``lower``: a sound lower bound of the slope over the whole region. ``refuted``: a point was taken by ``refute``.
    ``bounded``, ``open``: how many parts were bounded, and are left; ``reason``: why it stopped."""

    lower: float
    refuted: bool
    bounded: int
    open: int
    reason: str


@dataclass(frozen=True, eq=False)
class _Part:
    """A part of the region: a box ``(inputs,)``, the signs ``(neurons,)`` that hold in it, and those that were
    assumed."""

    lower: Tensor
    upper: Tensor
    signs: Tensor
    assumed: Tensor


class SlopeSearch:
    """The search for one slope over one region (a batch of one), with ``signs`` ``(1, neurons)`` that are known."""

    def __init__(self, slope: Slope, region: Region, signs: Tensor, tolerance: float, refute: Refute) -> None:
        self.slope, self.network, self.region = slope, slope.network, region
        self.tolerance, self.refute = tolerance, refute
        self.root = RootRelaxation.of(self.network, region)
        whole = _Part(region.lower[0].flatten(), region.upper[0].flatten(), signs[0], torch.zeros_like(signs[0]))
        self.open = OpenSet([whole])
        self.open.put_back(self.open.roots[0])
        self.width = (whole.upper - whole.lower).clamp(min=1e-300)
        self.bounded = 0

    @torch.no_grad()
    def run(self, deadline: Deadline) -> SlopeSearchResult:
        """Bounds parts, the worst first, until none is open, one is refuted, or the deadline passes."""
        reason = "every part is proved"
        while self.open.waiting:
            if deadline.passed or len(self.open) > _MOST_OPEN:
                reason = "time limit" if deadline.passed else f"more than {_MOST_OPEN} parts open"
                break
            if self._step(self.open.take(_BATCH)):
                return SlopeSearchResult(self._least(), True, self.bounded, len(self.open), "counterexample")
        else:
            if len(self.open):
                reason = "parts whose slope is negative and that have no inside, up to rounding"
        return SlopeSearchResult(self._least(), False, self.bounded, len(self.open), reason)

    def _least(self) -> float:
        return min(self.open.lower())

    def _step(self, taken: Sequence[Subproblem[_Part]]) -> bool:
        """Bounds parts and splits those that stay open; whether a point was refuted on the way."""
        parts = [each.item for each in taken]
        low, high, signs, assumed = (
            torch.stack([getattr(part, name) for part in parts]) for name in ("lower", "upper", "signs", "assumed")
        )
        self.bounded += len(parts)
        relaxation = batched_crown(self.network, self._regions(low, high), signs, self.root)
        forms = self._constraints(relaxation, assumed)
        empty = torch.zeros(len(parts), dtype=torch.bool)
        if forms is not None:
            clause = torch.zeros(forms.constant.shape[1], dtype=torch.int64)
            low, high, found = cut(forms, clause, low, high, empty[:, None])
            empty = found[:, 0]
        lower, gains = self.slope.lower(relaxation.signs)
        proved = empty | (lower >= -self.tolerance)
        if self._tried(low, high, ~proved):
            return True
        for position, subproblem in enumerate(taken):
            if proved[position]:
                self.open.replace(subproblem, [], [math.inf if empty[position] else float(lower[position])])
                continue
            part = _Part(low[position], high[position], relaxation.signs[position], assumed[position])
            halves = self._split(part, gains[position], relaxation, position)
            if halves:
                bound = float(lower[position])
                self.open.replace(subproblem, [(bound, half) for half in halves])
            elif self._leaf(subproblem, part, forms, position, float(lower[position])):
                return True
        return False

    def _regions(self, low: Tensor, high: Tensor) -> Region:
        if self.region.is_box:
            return Box(*(side.unflatten(1, self.region.shape) for side in (low, high)))
        return self.region.repeated(len(low))

    def _constraints(self, relaxation: BatchedCrown, assumed: Tensor) -> LinearForms | None:
        """Linear expressions that are at most zero where the assumed signs hold, one a neuron with such a sign."""
        found: LinearForms | None = None
        sizes = [self.network.size(name) for name in self.network.pre_activations]
        for name, signs in zip(self.network.pre_activations, assumed.split(sizes, dim=1), strict=True):
            most = int((signs != 0).sum(1).max())
            if not most:
                continue
            positions = (signs == 0).to(torch.uint8).argsort(dim=1, stable=True)[:, :most]
            chosen = -signs.gather(1, positions).to(self.slope.row)
            rows = self.root.select(name, positions, 1.0)
            shape = (*chosen.shape, *[1] * (rows.coefficients.dim() - 2))
            error = self.root.rounding_error[name][0][positions]
            constant = chosen * (rows.constant + error) - error
            forms = relaxation.rows(Objective(rows.node, rows.coefficients * chosen.reshape(shape), constant))
            found = forms if found is None else found | forms
        return found

    def _tried(self, low: Tensor, high: Tensor, is_open: Tensor) -> bool:
        """Whether the middle of an open part is refuted."""
        middle = ((low + high) / 2)[is_open & (low <= high).all(1)].unflatten(1, self.region.shape)
        falling = self.slope.at(middle) < -self.tolerance if len(middle) else torch.zeros(0, dtype=torch.bool)
        return bool(falling.any()) and self.refute(middle[falling])

    def _split(self, part: _Part, gains: Tensor, relaxation: BatchedCrown, position: int) -> list[_Part]:
        """The two halves of a part; nothing where no neuron whose sign is open changes the slope's bound."""
        gain = gains.sum(1)
        matter = int((gain > 0).sum())
        if not matter:
            return []
        if self.region.is_box and len(part.lower) <= _FEW_INPUTS and matter > _FEW_NEURONS:
            axis = self._axis(part, gain, relaxation, position)
            if axis is not None:
                middle = (part.lower[axis] + part.upper[axis]) / 2
                below, above = part.upper.clone(), part.lower.clone()
                below[axis] = above[axis] = middle
                return [
                    _Part(part.lower, below, part.signs, part.assumed),
                    _Part(above, part.upper, part.signs, part.assumed),
                ]
        return self._halves(part, int(gain.argmax()))

    @staticmethod
    def _halves(part: _Part, neuron: int) -> list[_Part]:
        halves = []
        for sign in (-1, 1):
            signs, assumed = part.signs.clone(), part.assumed.clone()
            signs[neuron] = assumed[neuron] = sign
            halves.append(_Part(part.lower, part.upper, signs, assumed))
        return halves

    def _axis(self, part: _Part, gain: Tensor, relaxation: BatchedCrown, position: int) -> int | None:
        """The input that decides most of the neurons that matter; ``None`` where all are too narrow."""
        score, start = torch.zeros_like(part.lower), 0
        for name in self.network.pre_activations:
            own = gain[start : start + self.network.size(name)]
            start += len(own)
            for share in relaxation.shares_of(name):
                score += own[share.positions[position]] @ share.parts[position]
        wide = (part.upper - part.lower) > _NARROWEST * self.width
        if not bool(wide.any()):
            return None
        relative = (part.upper - part.lower) / self.width
        return int((score.nan_to_num() + 1e-9 * relative).masked_fill(~wide, -1.0).argmax())

    def _leaf(
        self, subproblem: Subproblem[_Part], part: _Part, forms: LinearForms | None, position: int, lower: float
    ) -> bool:
        """A part that no open sign matters in: refuted by a point of its inside, closed where it has none, else kept.

        Where a point of the linear bounds is not one of the part, signs that only decide where it lies are split.
        """
        if forms is not None:
            point, is_empty = _inside(forms[torch.tensor([position], dtype=torch.int64)], part.lower, part.upper)
            if is_empty:
                self.open.replace(subproblem, [], [math.inf])
                return False
            x = point.reshape(1, *self.region.shape)
            if bool((self.slope.at(x) < -self.tolerance).any()) and self.refute(x):
                return True
        undecided = (part.signs == 0).nonzero()[:, 0]
        if len(undecided):
            self.open.replace(subproblem, [(lower, half) for half in self._halves(part, int(undecided[0]))])
        else:
            self.open.keep(subproblem, lower)
        return False


def _inside(forms: LinearForms, lower: Tensor, upper: Tensor) -> tuple[Tensor, bool]:
    """The point of a box ``(inputs,)`` deepest inside ``forms <= 0``, and whether multipliers prove that none is."""
    a, c = forms.coefficients[0], forms.constant[0]
    count = a.shape[1]
    if not bool(a.isfinite().all() and c.isfinite().all()):
        return (lower + upper) / 2, False
    program = linprog(
        np.append(np.zeros(count), 1.0),
        A_ub=np.hstack([a.numpy(), -np.ones((len(a), 1))]),
        b_ub=-c.numpy(),
        bounds=[*zip(lower.tolist(), upper.tolist(), strict=True), (None, None)],
        method="highs",
    )
    if program.status != 0:
        return (lower + upper) / 2, False
    point = torch.from_numpy(program.x[:count]).clamp(lower, upper)
    weights = torch.from_numpy(-np.asarray(program.ineqlin.marginals)).clamp(min=0)
    mixed, constant = weights @ a, weights @ c
    size = weights @ (a.abs() @ torch.maximum(lower.abs(), upper.abs()) + c.abs())
    least = torch.where(mixed > 0, mixed * lower, mixed * upper).sum() + constant - gamma(len(a) + 2 * count) * size
    return point, bool(least > 0)
