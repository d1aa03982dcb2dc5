"""Norms of affine maps, certified from both sides.

The norm is the one induced by ``l_p`` on both sides, ``p`` one of 1, 2, inf: the largest column sum, the spectral norm,
the largest row sum. Spectral norms of maps whose smaller side has at most ``EXACT`` entries come from the Gram matrix's
eigenvalues. Of larger ones, power iteration gives the lower side; the upper side cannot come from an iteration
(a residual says that *some* singular value is near, not that it is the largest), so it is the best of

- the operators' own norms, multiplied along the paths; a convolution with padding is a piece of a convolution on a
  torus, whose norm is the largest one of its transfer matrices (Sedghi, Gupta and Long, ICLR 2019; strides by
  polyphase components), and
- ``sqrt(||A||_1 ||A||_inf)``.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kreludomain.analysis.lipschitz.affine import CHUNK, AffineMap, affine
from kreludomain.errors import InputError
from kreludomain.network.operators import (
    AffineOperator,
    Conv2d,
    Linear,
    Operator,
    Pad,
    Permute,
    Reshape,
    Scale,
    Sum,
)

#: Norms by the name they have in configurations.
NORMS: dict[str, float] = {"1": 1.0, "2": 2.0, "inf": math.inf}

#: The smaller side of a map whose norm is computed from a matrix: a second or two at most.
EXACT = 1500

#: What rounding may do to a computed norm, relative: far above what LAPACK does to matrices of these sizes.
SLACK = 1e-11


@dataclass(frozen=True)
class Norm:
    """``lower <= ||A|| <= upper``."""

    lower: float
    upper: float

    @property
    def exact(self) -> bool:
        """Whether both sides agree up to rounding."""
        return self.upper <= self.lower * (1 + 10 * SLACK)


def norm_of(p: float | str) -> float:
    """``p`` as a number. Raises :class:`InputError` unless it is 1, 2 or inf."""
    found = {"1": 1.0, "1.0": 1.0, "2": 2.0, "2.0": 2.0, "inf": math.inf}.get(str(p))
    if found is None:
        raise InputError(f"norm: {p!r} is not one of inf, 1, 2")
    return found


def dual(p: float) -> float:
    """``q`` with ``1/p + 1/q = 1``: the norm that gradients have where inputs have ``p``."""
    return {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[p]


def matrix_norm(matrix: Tensor, p: float) -> float:
    """An upper bound of the induced norm of a matrix, up to rounding the norm itself; zero for an empty one."""
    if not matrix.numel():
        return 0.0
    if p != 2:
        return float(matrix.abs().sum(0 if p == 1 else 1).max()) * (1 + SLACK)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))) * (1 + SLACK)


def map_norm(mapping: AffineMap, p: float) -> Norm:
    """The norm of an affine map from ``l_p`` to ``l_p``, certified from both sides."""
    if not mapping.nodes:
        return Norm(1.0, 1.0)
    if min(mapping.size) <= EXACT and (p == 2 or math.prod(mapping.size) <= EXACT**2):
        upper = matrix_norm(mapping.matrix, p) if p != 2 else _from_gram(mapping)
        return Norm(upper * (1 - 2 * SLACK), upper)
    upper = _along_paths(mapping, p)
    if p == 2:
        upper = min(upper, math.sqrt(_along_paths(mapping, 1.0) * _along_paths(mapping, math.inf)) * (1 + SLACK))
        return Norm(min(upper, power_iteration(mapping) * (1 - SLACK)), upper)
    return Norm(min(upper, _sampled_norm(mapping, p) * (1 - SLACK)), upper)


@torch.no_grad()
def power_iteration(
    mapping: AffineMap, steps: int = 60, width: int = 8, tolerance: float = 1e-7, seed: int = 0
) -> float:
    """``||A v|| / ||v||`` for a vector that power iteration on ``A^T A`` finds: a lower bound of ``||A||_2``.

    ``width`` vectors go together and are kept orthogonal: the error then shrinks by the ratio of the first to the
    ``width + 1``-th singular value in each step, where that of one vector may hardly shrink at all.
    """
    generator = torch.Generator().manual_seed(seed)
    outputs, inputs = mapping.size
    width, found = min(width, inputs, outputs), 0.0
    block = torch.randn((width, inputs), generator=generator, dtype=torch.float64)
    for _ in range(steps):
        basis = torch.linalg.qr(block.T).Q.T
        image = mapping(basis.reshape(-1, *mapping.in_shape)).flatten(1)
        longest = float(torch.linalg.matrix_norm(image, ord=2))  # the basis is orthonormal up to rounding
        done = longest <= found * (1 + tolerance)
        found = max(found, longest)
        if done:
            break
        block = mapping.transpose(image.reshape(-1, *mapping.out_shape)).flatten(1)
    return found


def operator_norm(operator: AffineOperator, p: float) -> float:
    """An upper bound of the norm of one affine operator, all inputs of which move by at most one together.

    For a sum, inputs that move by ``d_i`` move it by at most ``sum_i d_i``, which is what its 1 stands for.
    """
    bound = BOUNDS.get(type(operator), _from_magnitudes)(operator, p)
    return bound if p != 2 else min(bound, _from_magnitudes(operator, p))


def absolute_transpose(operator: AffineOperator, coefficients: Tensor) -> tuple[Tensor, ...]:
    """``|W_i|^T a`` for every input of an operator, from ``a`` of shape ``(N, *out_shape)``."""
    # magnitude is linear in its radii, so its derivative is its matrix, and autograd transposes it
    zeros = tuple(coefficients.new_zeros(len(coefficients), *shape) for shape in operator.in_shapes)
    with torch.enable_grad():
        radii = tuple(zero.requires_grad_() for zero in zeros)
        return tuple(torch.autograd.grad(operator.abs_linear(*radii), radii, coefficients))


def _from_gram(mapping: AffineMap) -> float:
    """The spectral norm from the smaller Gram matrix, a chunk of columns at a time."""
    outputs, inputs = mapping.size
    first, second, shape, size = (
        (mapping.__call__, mapping.transpose, mapping.in_shape, inputs)
        if inputs <= outputs
        else (mapping.transpose, mapping.__call__, mapping.out_shape, outputs)
    )
    unit = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    gram = torch.cat([second(first(part)).flatten(1) for part in unit.split(CHUNK)])
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh((gram + gram.T) / 2)[-1]))) * (1 + SLACK)


def _along_paths(mapping: AffineMap, p: float) -> float:
    """The norms of the operators, multiplied along paths and added where paths meet."""
    found = {mapping.source.name: 1.0}
    for node in mapping.nodes:
        found[node.name] = operator_norm(affine(node), p) * sum(found.get(name, 0.0) for name in node.inputs)
    return found[mapping.target.name] * (1 + SLACK)


def _sampled_norm(mapping: AffineMap, p: float, count: int = 64, seed: int = 0) -> float:
    """A lower bound of the 1- or inf-norm: the sums of some columns or rows."""
    outputs, inputs = mapping.size
    size, shape = (inputs, mapping.in_shape) if p == 1 else (outputs, mapping.out_shape)
    chosen = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]
    unit = torch.zeros(len(chosen), size, dtype=torch.float64)
    unit[torch.arange(len(chosen)), chosen] = 1.0
    apply = mapping.__call__ if p == 1 else mapping.transpose
    return float(apply(unit.reshape(-1, *shape)).flatten(1).abs().sum(1).max())


def _linear(operator: Linear, p: float) -> float:
    return matrix_norm(operator.weight.double(), p)  # the same matrix on every row of the leading axes


def _convolution(operator: Conv2d, p: float) -> float:
    if p != 2:
        return _from_magnitudes(operator, p)
    return _on_a_torus(operator)


@torch.no_grad()
def _on_a_torus(operator: Conv2d) -> float:
    """The norm of the convolution that wraps around on a torus too large for the image to meet itself.

    Zero padding makes the operator a piece (some rows, some columns) of that one, so its norm is at most as large. A
    stride ``s`` keeps every ``s``-th output: the input's ``s`` phases along an axis become channels, and the kernel's
    taps with them.
    """
    o, weight = operator, operator.weight.double()
    kernel, phases, sizes = weight, [], []
    for axis in (0, 1):
        taps, stride = weight.shape[2 + axis], o.stride[axis]
        reach = o.dilation[axis] * (taps - 1) + 1
        whole = -(-reach // stride) * stride
        spread = kernel.new_zeros(*kernel.shape[: 2 + axis], whole, *kernel.shape[3 + axis :])
        spread.index_copy_(2 + axis, o.dilation[axis] * torch.arange(taps), kernel)
        kernel = spread
        phases.append(stride)
        sizes.append(-(-max(o.in_shape[1 + axis] + 2 * o.padding[axis], whole) // stride))
    out, channels = kernel.shape[:2]
    rows, columns = (kernel.shape[2 + axis] // phases[axis] for axis in (0, 1))
    kernel = kernel.reshape(out, channels, rows, phases[0], columns, phases[1]).permute(0, 1, 3, 5, 2, 4)
    kernel = kernel.reshape(o.groups, out // o.groups, channels * phases[0] * phases[1], rows, columns)
    transfer = torch.fft.rfft2(kernel, s=tuple(sizes)).permute(0, 3, 4, 1, 2)
    return float(torch.linalg.svdvals(transfer).max()) * (1 + SLACK)


def _from_magnitudes(operator: AffineOperator, p: float) -> float:
    """The largest row sum, column sum, or the square root of their product, over all inputs together."""
    ones = tuple(torch.ones((1, *shape), dtype=torch.float64) for shape in operator.in_shapes)
    double = operator.to(dtype=torch.float64)
    if not isinstance(double, AffineOperator):
        raise TypeError(f"{type(operator).__name__} is not affine")
    largest_row = float(double.abs_linear(*ones).max())
    if p == math.inf:
        return largest_row * (1 + SLACK)
    columns = absolute_transpose(double, torch.ones((1, *operator.out_shape), dtype=torch.float64))
    largest_column = max(float(part.max()) for part in columns)
    return (largest_column if p == 1 else math.sqrt(largest_row * largest_column)) * (1 + SLACK)


def _one(operator: Operator, p: float) -> float:
    return 1.0


#: Upper bounds of the norms of operators; one that is not here is bounded by its row and column sums.
BOUNDS: dict[type[Operator], Callable[[Any, float], float]] = {
    Linear: _linear,
    Conv2d: _convolution,
    Scale: lambda operator, p: float(operator.multiplier.abs().max()),
    Sum: _one,
    Reshape: _one,
    Permute: _one,
    Pad: _one,
}
