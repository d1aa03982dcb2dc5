"""Affine expressions in the variables of a program, with bounds of their rounding errors."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import sparse


@dataclass(frozen=True, eq=False)
class Affine:
    """``matrix @ z + constant``, ``n`` values in a program's variables ``z``, true up to ``error``.

    ``matrix`` is ``(n, w)``; variables that came later than the first ``w`` have no share. ``error`` ``(n,)`` bounds
    rounding of the matrix and the constant for all ``z`` within the variables' bounds. Arithmetic passes errors on;
    its own rounding is for whoever knows the bounds to add (:meth:`blurred`, :meth:`magnitude`).
    """

    matrix: sparse.csr_matrix
    constant: np.ndarray
    error: np.ndarray

    __array_ufunc__ = None  # so that ``vector * expression`` is ours and not an array of expressions

    @classmethod
    def of_columns(
        cls, columns: np.ndarray, width: int, size: int | None = None, at: np.ndarray | None = None
    ) -> Affine:
        """The ``size`` values whose entries ``at`` (all, if not given) are the variables ``columns``, the others
        zero."""
        size = len(columns) if size is None else size
        at = np.arange(size) if at is None else at
        matrix = sparse.csr_matrix((np.ones(len(columns)), (at, columns)), shape=(size, width))
        return cls(matrix, np.zeros(size), np.zeros(size))

    def __len__(self) -> int:
        return len(self.constant)

    def __add__(self, other: Affine) -> Affine:
        left, right = self._side_by_side(other)
        return Affine(left + right, self.constant + other.constant, self.error + other.error)

    def __sub__(self, other: Affine) -> Affine:
        left, right = self._side_by_side(other)
        return Affine(left - right, self.constant - other.constant, self.error + other.error)

    def __neg__(self) -> Affine:
        return Affine(-self.matrix, -self.constant, self.error)

    def __rmul__(self, factor: float | np.ndarray) -> Affine:
        """Every entry times a number, or times its own entry of a vector."""
        factors = np.broadcast_to(factor, self.constant.shape).astype(float)
        matrix = (sparse.diags(factors) @ self.matrix).tocsr()
        return Affine(matrix, factors * self.constant, np.abs(factors) * self.error)

    def __getitem__(self, entries: np.ndarray) -> Affine:
        return Affine(self.matrix[entries], self.constant[entries], self.error[entries])

    def plus(self, constant: float | np.ndarray) -> Affine:
        """The expression and a constant, a number or one an entry."""
        return Affine(self.matrix, self.constant + constant, self.error)

    def blurred(self, error: np.ndarray) -> Affine:
        """The same expression with more of an error."""
        return Affine(self.matrix, self.constant, self.error + error)

    def through(self, weight: sparse.csr_matrix) -> Affine:
        """``weight`` times the expression."""
        return Affine((weight @ self.matrix).tocsr(), weight @ self.constant, abs(weight) @ self.error)

    def placed(self, entries: np.ndarray, size: int) -> Affine:
        """The expression of ``size`` entries that has this one's at ``entries`` and zeros elsewhere."""
        ones = np.ones(len(self))
        return self.through(sparse.csr_matrix((ones, (entries, np.arange(len(self)))), shape=(size, len(self))))

    def total(self) -> Affine:
        """The sum of all entries, as an expression of one."""
        return self.through(sparse.csr_matrix(np.ones((1, len(self)))))

    def at(self, point: np.ndarray) -> np.ndarray:
        """The values at a point ``z``."""
        values: np.ndarray = self.matrix @ point[: self.matrix.shape[1]] + self.constant
        return values

    def costs(self, width: int) -> np.ndarray:
        """The coefficients as a dense matrix ``(n, width)``, for a program with ``width`` variables."""
        dense: np.ndarray = widen(self.matrix, width).toarray()
        return dense

    def magnitude(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """An upper bound of ``|matrix| @ |z| + |constant|`` for variables within bounds, ``(n,)``."""
        width = self.matrix.shape[1]
        reach: np.ndarray = abs(self.matrix) @ np.maximum(np.abs(lower), np.abs(upper))[:width]
        result: np.ndarray = reach + np.abs(self.constant)
        return result

    def _side_by_side(self, other: Affine) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        width = max(self.matrix.shape[1], other.matrix.shape[1])
        return widen(self.matrix, width), widen(other.matrix, width)


def stacked(parts: Sequence[Affine]) -> Affine:
    """Expressions one below the other."""
    width = max(part.matrix.shape[1] for part in parts)
    matrix = sparse.vstack([widen(part.matrix, width) for part in parts], format="csr")
    constant, error = (np.concatenate([getattr(part, name) for part in parts]) for name in ("constant", "error"))
    return Affine(matrix, constant, error)


def widen(matrix: sparse.csr_matrix, columns: int) -> sparse.csr_matrix:
    """The same matrix with zero columns up to ``columns``."""
    return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))
