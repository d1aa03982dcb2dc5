"""Bounds of a network's slope along one input entry, where some of its ReLUs' signs are known.

The derivative of every value with respect to one entry of the input is an interval that is passed forwards (Weng et
al., ICML 2018; Zhang, Zhang and Hsieh, AAAI 2019): an affine operator adds up intervals, a ReLU multiplies by 0 or 1
where its sign is known and by all of [0, 1] where it is not. Positive and negative terms are kept apart, so that a sum
without negative terms is not below zero by a rounding error: a slope of exactly zero has the bound zero.
"""

from __future__ import annotations

import dataclasses
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.domain.rounding import may_underflow
from kreludomain.network import Network
from kreludomain.network.operators import AffineOperator, Sum
from kreludomain.rounding import UNDERFLOW, gamma

#: An operator's positive weights, and the magnitudes of its negative ones.
_Parts = tuple[AffineOperator, AffineOperator]


@dataclasses.dataclass(frozen=True, eq=False)
class Slope:
    """The derivative of ``row . f`` with respect to the input's entry ``feature`` (a flat position).

    ``network`` is made of ReLUs, in float64; ``row`` is ``(outputs,)``.
    """

    network: Network
    feature: int
    row: Tensor

    def at(self, x: Tensor) -> Tensor:
        """The slope at points ``(N, *input_shape)``, ``(N,)``; a ReLU at exactly zero has slope 0."""
        with torch.enable_grad():
            x = x.detach().requires_grad_()
            (gradient,) = torch.autograd.grad((self.network(x).flatten(1) @ self.row).sum(), x)
        return gradient.flatten(1)[:, self.feature]

    def lower(self, signs: Tensor) -> tuple[Tensor, Tensor]:
        """Sound lower bounds of the slope, ``(B,)``, and what knowing a sign would add, ``(B, neurons, 2)``.

        ``signs`` ``(B, neurons)``: 1 where a ReLU's input is not negative, -1 where it is not positive, 0 where that is
        not known; layers one after another. Gains are estimates to the first order, for a sign of -1 and of 1.
        """
        with torch.enable_grad():
            least = (signs == 1).to(self.row).requires_grad_()
            largest = (signs != -1).to(self.row).requires_grad_()
            lower = self._lower(least, largest)
            lower = lower - self._underflow
            if not lower.requires_grad:  # a network without ReLUs
                return lower, torch.zeros(*signs.shape, 2, dtype=lower.dtype)
            up, down = torch.autograd.grad(lower.sum(), (least, largest), materialize_grads=True)
        return lower.detach(), torch.stack([-down, up], dim=2) * (signs == 0)[..., None]

    @cached_property
    def _underflow(self) -> float:
        """How far below zero a bound is taken to be where products of weights may have underflowed."""
        return UNDERFLOW if may_underflow(self.network, self.row) else 0.0

    def _lower(self, least: Tensor, largest: Tensor) -> Tensor:
        start = torch.zeros(self.network.size(self.network.input.name), dtype=self.row.dtype)
        start[self.feature] = 1.0
        entry = start.reshape(1, *self.network.input.shape).expand(len(least), *self.network.input.shape)
        known = {self.network.input.name: (entry, entry)}
        sizes = [self.network.size(name) for name in self.network.pre_activations]
        ranges = zip(least.split(sizes, 1), largest.split(sizes, 1), strict=True)
        slopes = dict(zip(self.network.pre_activations, ranges, strict=True))
        for node in self.network.nodes[1:]:
            given = [known[name] for name in node.inputs]
            if node.name in self._parts:
                known[node.name] = _affine(self._parts[node.name], given)
            else:
                low, high = (side.reshape(-1, *node.shape) for side in slopes[node.inputs[0]])
                known[node.name] = _relu(given[0], low, high)
        low, high = (side.flatten(1) for side in known[self.network.output.name])
        positive, negative = self.row.clamp(min=0), (-self.row).clamp(min=0)
        relative = gamma(len(self.row))
        return (low.clamp(min=0) @ positive + (-high).clamp(min=0) @ negative) * (1 - relative) - (
            (-low).clamp(min=0) @ positive + high.clamp(min=0) @ negative
        ) * (1 + relative)

    @cached_property
    def _parts(self) -> dict[str, _Parts]:
        nodes = ((node.name, node.operator) for node in self.network.nodes[1:])
        return {name: _parts(operator) for name, operator in nodes if isinstance(operator, AffineOperator)}


def _affine(parts: _Parts, given: list[tuple[Tensor, Tensor]]) -> tuple[Tensor, Tensor]:
    """An affine operator on intervals, rounded outwards."""
    plus, minus = parts
    relative = gamma(plus.accumulation_length)
    low_up, low_down = ([(sign * low).clamp(min=0) for low, _ in given] for sign in (1, -1))
    high_up, high_down = ([(sign * high).clamp(min=0) for _, high in given] for sign in (1, -1))
    lower = (plus.linear(*low_up) + minus.linear(*high_down)) * (1 - relative) - (
        plus.linear(*low_down) + minus.linear(*high_up)
    ) * (1 + relative)
    upper = (plus.linear(*high_up) + minus.linear(*low_down)) * (1 + relative) - (
        plus.linear(*high_down) + minus.linear(*low_up)
    ) * (1 - relative)
    return lower, upper


def _relu(given: tuple[Tensor, Tensor], least: Tensor, largest: Tensor) -> tuple[Tensor, Tensor]:
    """An interval times a slope from ``least`` to ``largest``, each of which is 0 or 1."""
    low, high = given
    lower = least * low.clamp(min=0) - largest * (-low).clamp(min=0)
    return lower, largest * high.clamp(min=0) - least * (-high).clamp(min=0)


def _parts(operator: AffineOperator) -> _Parts:
    """The operator with its positive weights alone, and with its negative ones as positive ones; constants do not
    matter."""
    if isinstance(operator, Sum):
        plus, minus = (tuple(max(0, side * sign) for sign in operator.signs) for side in (1, -1))
        return dataclasses.replace(operator, signs=plus), dataclasses.replace(operator, signs=minus)
    weights = {name: value for name, value in operator.tensors().items() if value.is_floating_point()}
    if not weights:  # entries are copied, or added
        return operator, _Nothing(operator.in_shapes, operator.out_shape)
    return (
        dataclasses.replace(operator, **{name: value.clamp(min=0) for name, value in weights.items()}),
        dataclasses.replace(operator, **{name: (-value).clamp(min=0) for name, value in weights.items()}),
    )


@dataclasses.dataclass(frozen=True, eq=False)
class _Nothing(AffineOperator):
    """``y = 0``."""

    shapes: tuple[tuple[int, ...], ...]
    shape: tuple[int, ...]

    @property
    def in_shapes(self) -> tuple[tuple[int, ...], ...]:
        return self.shapes

    @property
    def out_shape(self) -> tuple[int, ...]:
        return self.shape

    @property
    def accumulation_length(self) -> int:
        return 0

    def linear(self, *inputs: Tensor) -> Tensor:
        return inputs[0].new_zeros(len(inputs[0]), *self.shape)

    def abs_linear(self, *radii: Tensor) -> Tensor:
        return self.linear(*radii)

    def transpose(self, coefficients: Tensor) -> tuple[Tensor, ...]:
        return tuple(coefficients.new_zeros(len(coefficients), *shape) for shape in self.shapes)
