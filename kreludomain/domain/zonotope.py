"""DeepZ: affine forms over the input and fresh noise symbols (Singh et al., NeurIPS 2018).

The value of a node is ``c + A x + E e`` with ``x`` in the region and noise ``e`` in [-1, 1]. The input is not replaced
by noise, so balls of any norm are concretised exactly. Rounding errors of ``c``, ``A`` and ``E``, in which larger terms
may have cancelled, are bounded in a term of their own (:func:`kreludomain.rounding.gamma`).
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property, singledispatch

import torch
from torch import Tensor
from torch.nn import functional

from kreludomain.deadline import Deadline
from kreludomain.domain.abstraction import Abstraction, LowerBounds, intersect
from kreludomain.domain.bounds import Bounds, LayerBounds
from kreludomain.domain.interval import interval
from kreludomain.domain.method import Method
from kreludomain.domain.query import Query
from kreludomain.network.operators import Activation, AffineOperator, Operator
from kreludomain.property import Objective, Region
from kreludomain.rounding import ROUNDING, gamma


@dataclass(frozen=True, eq=False)
class AffineForm:
    """``constant + sum_i x_i linear[:, i] + sum_j e_j noise[:, j]``, and an error of at most ``error``.

    ``constant`` and ``error`` are ``(B, *shape)``, ``linear`` ``(B or 1, inputs, *shape)``, ``noise`` ``(B, symbols,
    *shape)``. ``input_magnitude`` ``(B, inputs)`` is the largest magnitude of each input.
    """

    constant: Tensor
    linear: Tensor
    noise: Tensor
    error: Tensor
    input_magnitude: Tensor

    @cached_property
    def magnitude(self) -> Tensor:
        """An upper bound of the sum of the magnitudes of each entry's terms, ``(B, *shape)``."""
        size = self.linear.abs().flatten(2)
        linear = self.input_magnitude @ size[0] if len(size) == 1 else (self.input_magnitude[:, None] @ size)[:, 0]
        return self.constant.abs() + linear.view_as(self.constant) + self.noise.abs().sum(1) + self.error

    def extrema(self, region: Region) -> Bounds:
        """Bounds of every entry, ``(B, *shape)``."""
        shape = self.constant.shape
        rows = self.linear.flatten(2).transpose(1, 2).unflatten(2, region.shape)
        radius = self.noise.abs().sum(1)
        radius = radius + max(ROUNDING, gamma(self.noise.shape[1])) * (self.constant.abs() + radius) + self.error
        lower = region.concretise(rows).reshape(shape)
        upper = -region.concretise(-rows).reshape(shape)
        return Bounds.computed(self.constant + lower - radius, self.constant + upper + radius)


@singledispatch
def affine_form(operator: Operator, pre: Bounds, symbols: int, *inputs: AffineForm) -> AffineForm:
    """The affine form of an operator's value. A new kind of operator registers its transformer here.

    ``pre`` bounds the first input's value. ``symbols`` is how many noise symbols the network has so far. A symbol has
    the same position in every form, so that paths which meet again share it, and fresh symbols begin at ``symbols``.
    """
    raise TypeError(f"no zonotope transformer for {type(operator).__name__}")


def _apply(operator: AffineOperator, generators: list[Tensor]) -> Tensor:
    """An affine operator's linear part on generators ``(B, symbols, *shape)``."""
    batch, symbols = generators[0].shape[:2]
    result: Tensor = operator.linear(*(g.flatten(0, 1) for g in generators)).unflatten(0, (batch, symbols))
    return result


@affine_form.register
def _(operator: AffineOperator, pre: Bounds, symbols: int, *inputs: AffineForm) -> AffineForm:
    longest = max(form.noise.shape[1] for form in inputs)
    noise = [_padded(form.noise, longest) for form in inputs]
    batch = max(form.linear.shape[0] for form in inputs)
    linear = [form.linear.expand(batch, *form.linear.shape[1:]) for form in inputs]
    error = operator.abs_linear(*(form.error for form in inputs))
    if operator.accumulation_length:
        size = operator.abs_linear(*(form.magnitude for form in inputs))
        size = size if operator.offset is None else size + operator.offset.abs()
        error = error + gamma(operator.accumulation_length) * size
    return AffineForm(
        error=error,
        input_magnitude=inputs[0].input_magnitude,
        constant=operator(*(form.constant for form in inputs)),
        linear=_apply(operator, linear),
        noise=_apply(operator, noise) if longest else noise[0].new_zeros(len(noise[0]), 0, *operator.out_shape),
    )


@affine_form.register
def _(operator: Activation, pre: Bounds, symbols: int, *inputs: AffineForm) -> AffineForm:
    # y lies between two parallel lines: y = slope x + middle + half e, e fresh.
    band = operator.function.parallel_lines(pre.lower, pre.upper)
    middle = (band.above.intercept + band.below.intercept) / 2
    half = (band.above.intercept - band.below.intercept) / 2
    return _between(inputs[0], pre, band.below.slope, middle, half, symbols)


def _between(form: AffineForm, pre: Bounds, slope: Tensor, middle: Tensor, half: Tensor, symbols: int) -> AffineForm:
    """``slope * form + middle + half * e``, all ``(B, *shape)``, with a fresh ``e`` wherever ``half`` is not zero.

    ``pre`` bounds the form's value.
    """
    fresh = half.flatten(1).any(0).nonzero()[:, 0]
    added = half.new_zeros(len(half), len(fresh), half[0].numel())
    added[:, torch.arange(len(fresh)), fresh] = half.flatten(1)[:, fresh]
    kept = _padded(form.noise, symbols) * slope[:, None]
    noise = torch.cat([kept, added.unflatten(2, half.shape[1:])], dim=1)
    # The lines themselves are rounded too, but for exact ones, which have no fresh symbol.
    lines = torch.where(half > 0, torch.maximum(pre.lower.abs(), pre.upper.abs()), 0.0)
    rounded = slope.abs() * form.magnitude + middle.abs() + half + lines
    error = slope.abs() * form.error + gamma(1) * rounded
    return AffineForm(form.constant * slope + middle, form.linear * slope[:, None], noise, error, form.input_magnitude)


def _padded(noise: Tensor, symbols: int) -> Tensor:
    """Noise ``(B, n, *shape)`` with zeros for the symbols up to ``symbols`` that it does not depend on."""
    return functional.pad(noise, (0, 0) * (noise.dim() - 2) + (0, symbols - noise.shape[1]))


@dataclass(frozen=True, eq=False)
class ZonotopeAbstraction(Abstraction):
    """Bounds and affine forms of every node."""

    forms: Mapping[str, AffineForm] = field(kw_only=True)

    @torch.no_grad()
    def minimise(self, objective: Objective, deadline: Deadline = Deadline()) -> LowerBounds:
        form, a = self.forms[objective.node], objective.coefficients.flatten(2)
        combined = AffineForm(
            (a @ form.constant.flatten(1)[:, :, None])[..., 0] + objective.constant,
            form.linear.flatten(2) @ a.transpose(1, 2),
            form.noise.flatten(2) @ a.transpose(1, 2),
            self._error(objective, form),
            form.input_magnitude,
        )
        return LowerBounds(combined.extrema(self.region).lower)

    def _error(self, objective: Objective, form: AffineForm) -> Tensor:
        """The rounding error of objectives in a form's entries, ``(B, m)``."""
        a, own = objective.coefficients.flatten(2), form.error + gamma(form.error[0].numel()) * form.magnitude
        found: Tensor = (a.abs() @ own.flatten(1)[:, :, None])[..., 0] + self.rounding.start_error(objective)
        return found + gamma(1) * objective.constant.abs()


@dataclass(frozen=True)
class Zonotope(Method):
    """DeepZ: affine forms from the input to the output, with one fresh noise symbol a neuron that is not exact."""

    @torch.no_grad()
    def abstract(self, query: Query) -> ZonotopeAbstraction:
        network, region = query.network, query.region
        size = math.prod(region.shape)
        identity = torch.eye(size, dtype=region.lower.dtype, device=region.lower.device)
        start = AffineForm(
            torch.zeros_like(region.lower),
            identity.reshape(1, size, *region.shape),
            region.lower.new_zeros(region.batch, 0, *region.shape),
            torch.zeros_like(region.lower),
            torch.maximum(region.lower.abs(), region.upper.abs()).flatten(1),
        )
        forms = {network.input.name: start}
        bounds = {network.input.name: Bounds(region.lower, region.upper)}
        symbols = 0
        for node in network.nodes:
            if node.inputs:
                inputs = [forms[name] for name in node.inputs]
                forms[node.name] = affine_form(node.operator, bounds[node.inputs[0]], symbols, *inputs)
                symbols = max(symbols, forms[node.name].noise.shape[1])
                bounds[node.name] = interval(node.operator, *(bounds[name] for name in node.inputs))
                bounds[node.name] = bounds[node.name] & forms[node.name].extrema(region)
            bounds[node.name] = intersect(node.name, bounds[node.name], query.prior_bounds)
        return ZonotopeAbstraction(network, region, LayerBounds(bounds), forms=forms)
