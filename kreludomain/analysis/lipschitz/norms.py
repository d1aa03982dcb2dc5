"""Norms of affine maps, certified from both sides.

The norm is the one induced by ``l_p`` on both sides, ``p`` one of 1, 2, inf: the largest column sum of absolute values,
the spectral norm, the largest row sum. The spectral norm of a map whose smaller side has at most ``MAX_EXACT_SIZE``
entries comes from the eigenvalues of its Gram matrix. For larger maps, power iteration gives a lower bound; it cannot
give an upper bound (a small residual says that *some* singular value is near, not that it is the largest), so that is
the smaller of

- the operators' own norms, multiplied along the paths; a zero-padded convolution is a submatrix of a circular
  convolution, whose norm is the largest norm of its transfer matrices (Sedghi, Gupta and Long, ICLR 2019; strides by
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
from kreludomain.network.operators import (
    AffineOperator,
    Convolution,
    Linear,
    Operator,
    Pad,
    Permute,
    Reshape,
    Scale,
    Sum,
    TransposedConvolution,
)
from kreludomain.property import norm_name

#: ``p`` by its name in configurations.
NORMS: dict[str, float] = {"1": 1.0, "2": 2.0, "inf": math.inf}

#: Up to this many entries on a map's smaller side its norm is computed from a matrix, in a second or two at most.
MAX_EXACT_SIZE = 1500

#: Relative rounding error allowed for in a computed norm: far above LAPACK's error for matrices of these sizes.
NORM_TOL = 1e-11


@dataclass(frozen=True)
class Norm:
    """``lower <= ||A|| <= upper``."""

    lower: float
    upper: float

    @property
    def exact(self) -> bool:
        """Whether both sides agree up to rounding."""
        return self.upper <= self.lower * (1 + 10 * NORM_TOL)


def norm_of(p: float | str) -> float:
    """``p`` as a number. Raises :class:`InputError` unless it is 1, 2 or inf."""
    return float(norm_name(p))


def dual(p: float) -> float:
    """``q`` with ``1/p + 1/q = 1``: gradients are measured in the dual of the inputs' norm."""
    return {1.0: math.inf, 2.0: 2.0, math.inf: 1.0}[p]


def matrix_norm(matrix: Tensor, p: float) -> float:
    """The induced norm of a matrix, rounded up; zero for an empty one."""
    if not matrix.numel():
        return 0.0
    if p != 2:
        return float(matrix.abs().sum(0 if p == 1 else 1).max()) * (1 + NORM_TOL)
    gram = matrix @ matrix.T if matrix.shape[0] <= matrix.shape[1] else matrix.T @ matrix
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh(gram)[-1]))) * (1 + NORM_TOL)


def map_norm(mapping: AffineMap, p: float) -> Norm:
    """The norm of an affine map from ``l_p`` to ``l_p``, certified from both sides."""
    if not mapping.nodes:
        return Norm(1.0, 1.0)
    if min(mapping.size) <= MAX_EXACT_SIZE and (p == 2 or math.prod(mapping.size) <= MAX_EXACT_SIZE**2):
        upper = matrix_norm(mapping.matrix, p) if p != 2 else _norm_from_gram(mapping)
        return Norm(upper * (1 - 2 * NORM_TOL), upper)
    upper = _norm_along_paths(mapping, p)
    if p == 2:
        upper = min(
            upper, math.sqrt(_norm_along_paths(mapping, 1.0) * _norm_along_paths(mapping, math.inf)) * (1 + NORM_TOL)
        )
        return Norm(min(upper, power_iteration(mapping) * (1 - NORM_TOL)), upper)
    return Norm(min(upper, _sampled_norm(mapping, p) * (1 - NORM_TOL)), upper)


@torch.no_grad()
def power_iteration(
    mapping: AffineMap, steps: int = 60, width: int = 8, tolerance: float = 1e-7, seed: int = 0
) -> float:
    """``||A v|| / ||v||`` for a vector found by power iteration on ``A^T A``: a lower bound of ``||A||_2``.

    This is subspace iteration with ``width`` orthogonal vectors: in each step the error shrinks by the ratio of the
    first to the ``width + 1``-th singular value; with one vector it is the ratio to the second, often close to 1.
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
    """A constant ``c`` with ``||change of the output|| <= c sum_i ||change of input i||`` for one affine operator."""
    bound = OPERATOR_NORMS.get(type(operator), _norm_from_sums)(operator, p)
    return bound if p != 2 else min(bound, _norm_from_sums(operator, p))


def absolute_transpose(operator: AffineOperator, coefficients: Tensor) -> tuple[Tensor, ...]:
    """``|W_i|^T a`` for every input of an operator, from ``a`` of shape ``(N, *out_shape)``."""
    # abs_linear is linear in the radii with the matrix |W_i|, so its gradient is the product with the transpose.
    zeros = tuple(coefficients.new_zeros(len(coefficients), *shape) for shape in operator.in_shapes)
    with torch.enable_grad():
        radii = tuple(zero.requires_grad_() for zero in zeros)
        return tuple(torch.autograd.grad(operator.abs_linear(*radii), radii, coefficients))


def _norm_from_gram(mapping: AffineMap) -> float:
    """The spectral norm from the smaller Gram matrix, which is computed by groups of columns."""
    outputs, inputs = mapping.size
    first, second, shape, size = (
        (mapping.__call__, mapping.transpose, mapping.in_shape, inputs)
        if inputs <= outputs
        else (mapping.transpose, mapping.__call__, mapping.out_shape, outputs)
    )
    unit = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
    gram = torch.cat([second(first(part)).flatten(1) for part in unit.split(CHUNK)])
    return math.sqrt(max(0.0, float(torch.linalg.eigvalsh((gram + gram.T) / 2)[-1]))) * (1 + NORM_TOL)


def _norm_along_paths(mapping: AffineMap, p: float) -> float:
    """An upper bound: the operators' norms, multiplied along paths and added where paths meet."""
    found = {mapping.source.name: 1.0}
    for node in mapping.nodes:
        found[node.name] = operator_norm(affine(node), p) * sum(found.get(name, 0.0) for name in node.inputs)
    return found[mapping.target.name] * (1 + NORM_TOL)


def _sampled_norm(mapping: AffineMap, p: float, count: int = 64, seed: int = 0) -> float:
    """A lower bound of the 1- or inf-norm: the largest absolute sum of some columns or rows."""
    outputs, inputs = mapping.size
    size, shape = (inputs, mapping.in_shape) if p == 1 else (outputs, mapping.out_shape)
    chosen = torch.randperm(size, generator=torch.Generator().manual_seed(seed))[:count]
    unit = torch.zeros(len(chosen), size, dtype=torch.float64)
    unit[torch.arange(len(chosen)), chosen] = 1.0
    apply = mapping.__call__ if p == 1 else mapping.transpose
    return float(apply(unit.reshape(-1, *shape)).flatten(1).abs().sum(1).max())


def _linear_norm(operator: Linear, p: float) -> float:
    return matrix_norm(operator.weight.double(), p)  # the same matrix on every row of the leading axes


def _convolution_norm(operator: Convolution, p: float) -> float:
    if p != 2:
        return _norm_from_sums(operator, p)
    return _circular_norm(operator)


@torch.no_grad()
def _circular_norm(operator: Convolution) -> float:
    """The spectral norm of the circular convolution on a grid that holds the image and its padding.

    The zero-padded operator is a submatrix (some rows, some columns) of it, so its norm is at most as large. A stride
    ``s`` keeps every ``s``-th output: the ``s`` phases of the input along an axis, and of the kernel's taps, become
    channels (polyphase components).
    """
    o, weight = operator, operator.weight.double()
    kernel, phases, sizes = weight, [], []
    for axis in range(o.spatial):
        taps, stride = weight.shape[2 + axis], o.stride[axis]
        reach = o.dilation[axis] * (taps - 1) + 1
        whole = -(-reach // stride) * stride
        spread = kernel.new_zeros(*kernel.shape[: 2 + axis], whole, *kernel.shape[3 + axis :])
        spread.index_copy_(2 + axis, o.dilation[axis] * torch.arange(taps), kernel)
        kernel = spread
        phases.append(stride)
        sizes.append(-(-max(o.in_shape[1 + axis] + 2 * o.padding[axis], whole) // stride))
    out, channels = kernel.shape[:2]
    axes = range(o.spatial)
    split = [(kernel.shape[2 + axis] // phases[axis], phases[axis]) for axis in axes]
    kernel = kernel.reshape(out, channels, *(n for pair in split for n in pair))
    kernel = kernel.permute(0, 1, *(3 + 2 * axis for axis in axes), *(2 + 2 * axis for axis in axes))
    kernel = kernel.reshape(o.groups, out // o.groups, channels * math.prod(phases), *(taps for taps, _ in split))
    transfer = torch.fft.rfftn(kernel, s=tuple(sizes), dim=tuple(3 + axis for axis in axes)).movedim((1, 2), (-2, -1))
    return float(torch.linalg.svdvals(transfer).max()) * (1 + NORM_TOL)


def _norm_from_sums(operator: AffineOperator, p: float) -> float:
    """The largest column sum (``p`` 1), row sum (inf), or the root of their product (2), over all inputs together."""
    ones = tuple(torch.ones((1, *shape), dtype=torch.float64) for shape in operator.in_shapes)
    double = operator.to(dtype=torch.float64)
    if not isinstance(double, AffineOperator):
        raise TypeError(f"{type(operator).__name__} is not affine")
    largest_row = float(double.abs_linear(*ones).max())
    if p == math.inf:
        return largest_row * (1 + NORM_TOL)
    columns = absolute_transpose(double, torch.ones((1, *operator.out_shape), dtype=torch.float64))
    largest_column = max(float(part.max()) for part in columns)
    return (largest_column if p == 1 else math.sqrt(largest_row * largest_column)) * (1 + NORM_TOL)


def _unit_norm(operator: Operator, p: float) -> float:
    return 1.0


#: Upper bounds of operators' norms by type; other operators are bounded by their row and column sums.
OPERATOR_NORMS: dict[type[Operator], Callable[[Any, float], float]] = {
    Linear: _linear_norm,
    Convolution: _convolution_norm,
    TransposedConvolution: lambda operator, p: _convolution_norm(operator.convolution, dual(p)),
    Scale: lambda operator, p: float(operator.multiplier.abs().max()),
    Sum: _unit_norm,
    Reshape: _unit_norm,
    Permute: _unit_norm,
    Pad: _unit_norm,
}
