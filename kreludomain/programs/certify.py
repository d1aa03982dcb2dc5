"""Certified answers from a solver's multipliers, by weak duality.

A solver's values are never used. Any row multipliers prove a lower bound (Neumaier & Shcherbina, *Safe bounds in linear
and mixed-integer linear programming*, Math. Program. 2004), and a ray of multipliers can prove that a program has no
solution.
"""

from __future__ import annotations

import math

import numpy as np
import torch

from kreludomain.programs.model import Program, RowColumnBounds
from kreludomain.rounding import ROUNDING, gamma


def certified_minimum(
    program: Program, cost: np.ndarray, dual: np.ndarray, within: RowColumnBounds | None = None
) -> float:
    """A lower bound of ``cost . z`` over the program from ANY row multipliers ``dual``.

    ``cost . z = dual . (rows z) + (cost - dual rows) . z``; the first term is bounded by the rows' sides, the second
    over the variables' bounds and, for the input, over the region. Multipliers that are not finite, or push on a side
    that is not there, count as zero. ``within`` are other sides to bound it over; the input's stay the region's.
    """
    lower, upper, row_lower, row_upper = within or program.sides
    columns, sizes = program.transposed
    finite = np.where(np.isfinite(dual), dual, 0.0)
    dual = np.where(np.where(finite > 0, np.isfinite(row_lower), np.isfinite(row_upper)), finite, 0.0)
    sides = np.where(dual > 0, row_lower, row_upper)
    sides = np.where(dual == 0, 0.0, sides)
    reduced = cost - columns @ dual
    inputs = program.inputs
    rest, low, high = reduced[inputs:], lower[inputs:], upper[inputs:]
    over_box = np.where(rest > 0, rest * low, rest * high)
    terms = dual * sides
    # Rounding: of the sums themselves, and of the reduced costs, whose terms may cancel.
    spread = np.abs(cost) + sizes @ np.abs(dual)
    reach = np.maximum(np.abs(lower), np.abs(upper))
    relative = max(ROUNDING, gamma(max(program.rows.shape)))
    slack = relative * (np.abs(terms).sum() + spread @ reach) + np.abs(dual) @ program.row_error
    return float(terms.sum() + over_box.sum() + _over_region(program, reduced[:inputs]) - slack)


def _over_region(program: Program, reduced: np.ndarray) -> float:
    """The minimum of ``reduced . x`` over the region of the input."""
    region = program.region
    if region is None:
        return 0.0
    coefficients = torch.from_numpy(reduced).reshape(1, 1, *region.shape).to(region.lower)
    return float(region.concretise(coefficients))


def proves_infeasible(program: Program, ray: np.ndarray, within: RowColumnBounds | None = None) -> bool:
    """Whether a ray of multipliers, or its opposite, proves that no point satisfies the program.

    It does if it gives zero costs a positive minimum.
    """
    zero = np.zeros(len(program.lower))
    return any(0 < certified_minimum(program, zero, each, within) < math.inf for each in (ray, -ray))
