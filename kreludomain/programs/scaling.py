"""Programs in numbers near one, which a solver with absolute tolerances needs.

HiGHS drops entries of a matrix below 1e-9 and leaves rows unsatisfied by its tolerance, whatever their size: on a
network whose weights are small, that is another program. Here every variable is in units of its own bounds and every
row in units of its largest term, by powers of two, so that nothing is rounded. Entries that are negligible then are
left out by moving their row's sides outwards by all that they can come to: no point is lost.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy import sparse

from kreludomain.programs.model import Program

#: Entries below this share of their row's largest are left out. HiGHS's own limit is 1e-9, absolutely.
_NEGLIGIBLE = 1e-9


@dataclass(frozen=True, eq=False)
class ScaledProgram:
    """A program over ``z / units``: its points, times ``units`` ``(columns,)``, are those of the program it is from,
    and perhaps a few more."""

    program: Program
    units: np.ndarray

    def cost(self, cost: np.ndarray) -> np.ndarray:
        """Costs of the same value on the scaled variables."""
        scaled: np.ndarray = cost * self.units
        return scaled

    def inward(self, point: np.ndarray) -> np.ndarray:
        """A point in the scaled variables."""
        scaled: np.ndarray = point / self.units
        return scaled

    def outward(self, point: np.ndarray) -> np.ndarray:
        """A point of the scaled program in the variables of the program it is from."""
        found: np.ndarray = point * self.units
        return found


def scaled(program: Program) -> ScaledProgram:
    """A program without a region, scaled. Variables that have to be whole keep their unit."""
    reach = np.maximum(np.abs(program.lower), np.abs(program.upper))
    units = np.where(program.integer, 1.0, _power_of_two(reach))
    lower, upper = program.lower / units, program.upper / units
    matrix = (program.rows @ sparse.diags(units)).tocsr()
    factors = 1 / _power_of_two(abs(matrix).max(axis=1).toarray().ravel())
    matrix = (sparse.diags(factors) @ matrix).tocsr()
    small = matrix.copy()
    small.data = np.where(np.abs(small.data) < _NEGLIGIBLE, np.abs(small.data), 0.0)
    spare = small @ np.maximum(np.abs(lower), np.abs(upper))
    spare = spare * (1 + _NEGLIGIBLE)  # its own rounding
    matrix.data = np.where(np.abs(matrix.data) < _NEGLIGIBLE, 0.0, matrix.data)
    matrix.eliminate_zeros()
    rows = {
        "row_lower": program.row_lower * factors - spare,
        "row_upper": program.row_upper * factors + spare,
        "row_error": program.row_error * factors,
    }
    return ScaledProgram(replace(program, lower=lower, upper=upper, rows=matrix, **rows), units)


def _power_of_two(size: np.ndarray) -> np.ndarray:
    """The power of two nearest to each size; 1 for zero."""
    exponent = np.round(np.log2(np.where((size > 0) & np.isfinite(size), size, 1.0)))
    power: np.ndarray = np.exp2(np.clip(exponent, -1000, 1000))
    return power
