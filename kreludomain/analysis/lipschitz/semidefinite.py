"""LipSDP: global bounds from incremental quadratic constraints on neurons, as a semidefinite program.

Fazlyab, Robey, Hassani, Morari and Pappas, *Efficient and accurate estimation of Lipschitz constants for deep neural
networks*, NeurIPS 2019, with diagonal multipliers (LipSDP-Neuron; coupled multipliers are not sound: Pauli et al., IEEE
Control Systems Letters 2022). For ``x_{l+1} = relu(W_l x_l + b_l)``, ``f = W_L x_L + b_L``, multipliers ``T_l >= 0``
(diagonal) and ``rho``, with

    M(rho, T) = sum_l [ -2 T_l on (x_l, x_l), W_{l-1}^T T_l on (x_{l-1}, x_l) and its transpose ]
                - rho on (x_0, x_0) + W_L^T W_L on (x_L, x_L),

``M <= 0`` (negative semidefinite) proves ``L^2 <= rho``: for a change ``d_0`` of the input and the changes ``d`` of all
layers, ``|df|^2 - rho |d_0|^2 <= d^T M d``, since each ReLU satisfies ``(dv)(dz) >= (dv)^2``. The same inequality gives
a bound from a solver's inexact answer: if the largest eigenvalue of ``M`` is at most ``delta``, then
``L^2 <= rho + delta (1 + sum_l K_l^2)``, where ``K_l`` is any Lipschitz constant of layer ``l``. Weights are divided by
their norms first, so that every ``K_l`` is 1.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import scipy.linalg
import torch

from kreludomain.analysis.lipschitz.affine import layers
from kreludomain.analysis.lipschitz.norms import matrix_norm
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import Activation

#: Factors by which multipliers are scaled up in search of the smallest constant that they prove.
SCALES = (1.0, *(1.0 + 10.0**k for k in np.arange(-10, 0, 0.5)), 2.0, 4.0)

#: Rounding error of an eigenvalue, relative to the norm of the matrix.
EIGENVALUE_TOL = 1e-12

#: The options of a solver, by its name, for a tolerance and a time limit in seconds.
SOLVERS: dict[str, Callable[[float, float], dict[str, float]]] = {
    "scs": lambda tolerance, seconds: {
        "eps_abs": tolerance,
        "eps_rel": tolerance,
        "max_iters": 100_000,
        "time_limit_secs": seconds,
    },
    "clarabel": lambda tolerance, seconds: {
        "tol_gap_abs": tolerance,
        "tol_gap_rel": tolerance,
        "tol_feas": tolerance,
        "time_limit": seconds,
    },
}


@dataclass(frozen=True)
class LipSdp:
    """``upper``: a certified Lipschitz constant, ``l_2`` to ``l_2``, which does not rely on the solver's accuracy.

    ``claimed`` is the solver's own optimum (not a bound; ``None`` if it gave none), ``status`` how the solver ended.
    """

    upper: float
    claimed: float | None
    status: str
    seconds: float


def lipsdp(
    network: Network, solver: str = "scs", timeout_s: float = 120.0, neurons: int = 400, tolerance: float = 1e-5
) -> LipSdp:
    """The semidefinite bound of a chain of layers. The solver works to ``tolerance``; the bound is certified for any.

    Raises :class:`InputError` for a network that is not a chain (paths that meet), for one with more than ``neurons``
    hidden neurons (the program grows with the squares of the layers' widths) and for an unknown solver.
    """
    start = time.monotonic()
    if solver not in SOLVERS:
        raise InputError(f"lipsdp: solver '{solver}' is not one of {', '.join(SOLVERS)}")
    weights = chain_weights(network, neurons)
    norms = [matrix_norm(torch.from_numpy(weight), 2) for weight in weights]
    if min(norms) == 0:
        return LipSdp(0.0, 0.0, "a layer is zero", time.monotonic() - start)
    scale = math.prod(norms)
    unit = [weight / norm for weight, norm in zip(weights, norms, strict=True)]
    if len(unit) == 1:
        return LipSdp(scale, scale, "linear", time.monotonic() - start)
    rho, multipliers, status = _solve(_reduce_inputs(unit), solver, tolerance, timeout_s)
    upper = min(1.0, certified_constant(unit, multipliers)) if multipliers is not None else 1.0
    claimed = None if rho is None else scale * math.sqrt(max(0.0, rho))
    return LipSdp(scale * upper * (1 + 1e-11), claimed, status, time.monotonic() - start)


def chain_weights(network: Network, neurons: int) -> list[np.ndarray]:
    """The matrices of the layers. Raises :class:`InputError` for a network that is not a chain, or too large."""
    found, previous = layers(network), network.input.name
    hidden = sum(network.size(node.name) for node in network.activations)
    if hidden > neurons:
        raise InputError(f"lipsdp: {hidden} hidden neurons, the limit is {neurons} (neurons)")
    for layer in found:
        if len(layer.maps) != 1 or layer.maps[0].source.name != previous:
            raise InputError(f"lipsdp: node '{layer.target.name}' is not a layer of a chain")
        consumers = [node.name for node in network.activations if node.inputs[0] == layer.target.name]
        previous = consumers[0] if consumers else layer.target.name
    if isinstance(network.output.operator, Activation):
        raise InputError(f"lipsdp: the output '{network.output.name}' is an activation; an affine layer is expected")
    return [layer.maps[0].matrix.numpy() for layer in found]


def certified_constant(weights: Sequence[np.ndarray], multipliers: Sequence[np.ndarray]) -> float:
    """The Lipschitz constant that multipliers prove for a chain of weights of spectral norm at most 1.

    Any multipliers, ``T_l`` as ``(n_l,)``, are valid: entries that are negative or not finite are replaced by a tiny
    positive number. For each of several scales, the smallest ``rho`` is the norm of a Schur complement; the largest
    eigenvalue of ``M`` that remains is paid for as in the module's docstring. The best scale counts.
    """
    values = [np.where(np.isfinite(t), t, 0.0) for t in multipliers]
    floor = 1e-9 * max(1e-9, *(float(t.max()) for t in values))
    best = math.inf
    for scale in SCALES:
        scaled = [scale * np.maximum(t, floor) for t in values]
        rho = _smallest_rho(weights, scaled)
        if rho is None:
            continue
        matrix = _lmi(weights, scaled, rho)
        largest = float(scipy.linalg.eigvalsh(matrix, subset_by_index=[len(matrix) - 1] * 2)[0])
        delta = max(0.0, largest + EIGENVALUE_TOL * float(np.abs(matrix).sum(1).max()))
        best = min(best, rho + delta * (1 + len(values)))
    return math.sqrt(best)


def _lmi(weights: Sequence[np.ndarray], multipliers: Sequence[np.ndarray], rho: float) -> np.ndarray:
    """The matrix ``M(rho, T)`` of the linear matrix inequality; rows: the input's entries, then the hidden neurons."""
    sizes = [weight.shape[1] for weight in weights]
    ends = np.cumsum([0, *sizes])
    matrix = np.zeros((ends[-1], ends[-1]))
    matrix[np.arange(sizes[0]), np.arange(sizes[0])] = -rho
    for position, t in enumerate(multipliers):
        below, here = slice(*ends[position : position + 2]), slice(*ends[position + 1 : position + 3])
        coupling = t[:, None] * weights[position]
        matrix[here, below], matrix[below, here] = coupling, coupling.T
        matrix[here, here] = -2 * np.diag(t)
    last = slice(*ends[-2:])
    matrix[last, last] += weights[-1].T @ weights[-1]
    return matrix


def _smallest_rho(weights: Sequence[np.ndarray], multipliers: Sequence[np.ndarray]) -> float | None:
    """The smallest ``rho`` with ``M(rho, T) <= 0``, up to rounding; ``None`` if there is none."""
    matrix = _lmi(weights, multipliers, 0.0)
    inputs = weights[0].shape[1]
    try:
        factor = scipy.linalg.cholesky(-matrix[inputs:, inputs:], lower=True)
    except np.linalg.LinAlgError:
        return None
    rest = scipy.linalg.solve_triangular(factor, matrix[inputs:, :inputs], lower=True)
    gram = rest @ rest.T if rest.shape[0] < rest.shape[1] else rest.T @ rest
    rho = float(scipy.linalg.eigvalsh(gram, subset_by_index=[len(gram) - 1] * 2)[0])
    return rho * (1 + EIGENVALUE_TOL) if math.isfinite(rho) else None


def _reduce_inputs(weights: Sequence[np.ndarray]) -> list[np.ndarray]:
    """The chain with at most as many inputs as neurons in the first layer: rotating the input changes no norm."""
    first = weights[0]
    if first.shape[0] < first.shape[1]:
        first = np.asarray(np.linalg.qr(first.T, mode="r")).T
    return [first, *weights[1:]]


def _solve(
    weights: Sequence[np.ndarray], solver: str, tolerance: float, timeout_s: float
) -> tuple[float | None, list[np.ndarray] | None, str]:
    """``rho``, multipliers and the status of the solver.

    ``M`` is block tridiagonal, so ``-M`` is positive semidefinite exactly if it is a sum of positive semidefinite
    blocks, one for each two consecutive layers (Agler et al. 1988; Xue et al., *Chordal sparsity for Lipschitz constant
    estimation of deep neural networks*, CDC 2022). The diagonal block of each layer is divided between its two blocks.
    """
    import cvxpy  # imports for a second, and only this bound needs it

    rho = cvxpy.Variable(nonneg=True)
    multipliers = [cvxpy.Variable(weight.shape[0], nonneg=True) for weight in weights[:-1]]
    share = rho * np.eye(weights[0].shape[1])
    constraints = []
    for position, t in enumerate(multipliers):
        size = weights[position].shape[0]
        last = position + 1 == len(multipliers)
        above = weights[-1].T @ weights[-1] if last else cvxpy.Variable((size, size), symmetric=True)
        coupling = cvxpy.diag(t) @ weights[position]
        block = cvxpy.bmat([[share, -coupling.T], [-coupling, 2 * cvxpy.diag(t) - above]])
        constraints.append((block + block.T) / 2 >> 0)
        share = above
    problem = cvxpy.Problem(cvxpy.Minimize(rho), constraints)
    try:
        with warnings.catch_warnings():  # inaccurate solutions are reported in the status
            warnings.simplefilter("ignore")
            problem.solve(solver=solver.upper(), **SOLVERS[solver](tolerance, timeout_s))
    except (cvxpy.error.SolverError, ValueError, ArithmeticError) as error:
        return None, None, f"{solver}: {str(error).splitlines()[0]}"
    if rho.value is None or any(t.value is None for t in multipliers):
        return None, None, f"{solver}: {problem.status}"
    return float(rho.value), [np.asarray(t.value) for t in multipliers], f"{solver}: {problem.status}"
