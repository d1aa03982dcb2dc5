"""Programs in matrix form, and how they are collected: variables, rows, integers, and the region of the input."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy import sparse

from kreludomain.programs.expressions import Affine
from kreludomain.property import NormCone, Region, RegionRows


class RowColumnBounds(NamedTuple):
    """Lower and upper bounds of a program's variables and rows; infinite where a row has no such side."""

    lower: np.ndarray
    upper: np.ndarray
    row_lower: np.ndarray
    row_upper: np.ndarray


@dataclass(frozen=True, eq=False)
class Program:
    """``row_lower <= rows @ z <= row_upper``, ``lower <= z <= upper``, ``z[integer]`` whole, ``z[:inputs]`` in the
    region.

    All variables are bounded, so every row multiplier certifies a bound
    (:func:`~kreludomain.programs.certify.certified_minimum`). ``row_error``: rows are true up to this, which is
    rounding. ``region``: a batch of one, for the first ``inputs`` variables; ``None``, and no inputs, if there is none.
    Objectives are not part of a program.
    """

    lower: np.ndarray
    upper: np.ndarray
    integer: np.ndarray
    rows: sparse.csr_matrix
    row_lower: np.ndarray
    row_upper: np.ndarray
    row_error: np.ndarray
    region: Region | None = None
    inputs: int = 0

    @property
    def sides(self) -> RowColumnBounds:
        """All bounds of variables and rows together."""
        return RowColumnBounds(self.lower, self.upper, self.row_lower, self.row_upper)

    @cached_property
    def transposed(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """The rows transposed, and the sizes of their entries."""
        columns = self.rows.T.tocsr()
        return columns, abs(columns)

    @cached_property
    def region_rows(self) -> RegionRows | None:
        """The rows that the region declares; ``None`` where it declares none, and its bounding box stands for it."""
        return RegionRows.none(self.inputs) if self.region is None else self.region.program_rows()

    @property
    def cones(self) -> tuple[NormCone, ...]:
        """The cones that the region declares."""
        return () if self.region_rows is None else self.region_rows.cones

    @property
    def norms(self) -> frozenset[float]:
        """The norms of the cones, which a solver has to take."""
        return frozenset(cone.norm for cone in self.cones)

    def with_region_rows(self) -> Program:
        """The program with the region's rows and auxiliary variables, which come after its own."""
        region = self.region_rows
        if region is None or not region.matrix.shape[0]:
            return self
        n, total, extra = self.inputs, self.rows.shape[1], len(region.auxiliary_lower)
        own = sparse.hstack([self.rows, sparse.csr_matrix((self.rows.shape[0], extra))])
        added = sparse.hstack(
            [region.matrix[:, :n], sparse.csr_matrix((region.matrix.shape[0], total - n)), region.matrix[:, n:]]
        )
        return replace(
            self,
            lower=np.concatenate([self.lower, region.auxiliary_lower]),
            upper=np.concatenate([self.upper, region.auxiliary_upper]),
            integer=np.concatenate([self.integer, np.zeros(extra, bool)]),
            rows=sparse.vstack([own, added], format="csr"),
            row_lower=np.concatenate([self.row_lower, region.lower]),
            row_upper=np.concatenate([self.row_upper, region.upper]),
            row_error=np.concatenate([self.row_error, np.zeros(len(region.lower))]),
        )

    def relaxed(self) -> Program:
        """The program with no variable that has to be whole."""
        return replace(self, integer=np.zeros_like(self.integer))

    def fixing(self, columns: np.ndarray, values: np.ndarray) -> Program:
        """The program whose variables ``columns`` have the given values."""
        lower, upper = self.lower.copy(), self.upper.copy()
        lower[columns] = upper[columns] = values
        return replace(self, lower=lower, upper=upper)


@dataclass
class Model:
    """Variables and rows of a program as they are collected."""

    lower: list[np.ndarray] = field(default_factory=list)
    upper: list[np.ndarray] = field(default_factory=list)
    integer: list[np.ndarray] = field(default_factory=list)
    blocks: list[sparse.coo_matrix] = field(default_factory=list)
    row_lower: list[np.ndarray] = field(default_factory=list)
    row_upper: list[np.ndarray] = field(default_factory=list)
    row_error: list[np.ndarray] = field(default_factory=list)
    count: int = 0
    row_count: int = 0

    def columns(self, lower: np.ndarray, upper: np.ndarray, integer: bool = False) -> np.ndarray:
        """Positions of new variables with these bounds."""
        columns = np.arange(self.count, self.count + len(lower))
        self.lower.append(np.asarray(lower, dtype=float))
        self.upper.append(np.asarray(upper, dtype=float))
        self.integer.append(np.full(len(lower), integer))
        self.count += len(lower)
        return columns

    def at(self, columns: np.ndarray) -> Affine:
        """Variables as an expression."""
        return Affine.of_columns(columns, self.count)

    def variables(self, lower: np.ndarray, upper: np.ndarray, integer: bool = False) -> Affine:
        """New variables with these bounds, as an expression."""
        return self.at(self.columns(lower, upper, integer))

    def binaries(self, size: int) -> Affine:
        """New variables that are 0 or 1."""
        return self.variables(np.zeros(size), np.ones(size), integer=True)

    def define(self, value: Affine, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Positions of new variables that equal an expression, so that other rows need not repeat it."""
        columns = self.columns(lower, upper)
        self.require(value - self.at(columns), 0.0, 0.0)
        return columns

    def require(self, value: Affine, lower: float | np.ndarray = -np.inf, upper: float | np.ndarray = np.inf) -> None:
        """Rows ``lower <= value <= upper``."""
        self.add_rows(value.matrix, lower - value.constant, upper - value.constant, value.error)

    def add_rows(
        self,
        matrix: sparse.spmatrix,
        lower: np.ndarray | float,
        upper: np.ndarray | float,
        error: np.ndarray | float = 0.0,
    ) -> np.ndarray:
        """Rows ``lower <= matrix @ z <= upper``, true up to ``error``, whose positions are returned.

        The matrix may be narrower than there are variables by now.
        """
        size, start = matrix.shape[0], self.row_count
        self.blocks.append(sparse.coo_matrix(matrix))
        self.row_lower.append(np.broadcast_to(lower, (size,)).astype(float))
        self.row_upper.append(np.broadcast_to(upper, (size,)).astype(float))
        self.row_error.append(np.broadcast_to(error, (size,)).astype(float))
        self.row_count += size
        return np.arange(start, self.row_count)

    def triplets(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, size: int) -> sparse.coo_matrix:
        """A matrix of ``size`` rows from positions and values that broadcast to each other."""
        parts = np.broadcast_arrays(values, rows, columns)
        data, row, column = (part.ravel() for part in parts)
        return sparse.coo_matrix((data, (row, column)), shape=(size, self.count))

    def magnitude(self, value: Affine) -> np.ndarray:
        """An upper bound of the sums of an expression's absolute terms, ``(n,)``."""
        return value.magnitude(_joined(self.lower), _joined(self.upper))

    def program(self, region: Region | None = None, inputs: int = 0) -> Program:
        """The program by now; the region is that of the first ``inputs`` variables."""
        starts = np.cumsum([0, *(block.shape[0] for block in self.blocks)])
        data = _joined([block.data for block in self.blocks])
        row = _joined([block.row + start for block, start in zip(self.blocks, starts, strict=False)], int)
        column = _joined([block.col for block in self.blocks], int)
        return Program(
            lower=_joined(self.lower),
            upper=_joined(self.upper),
            integer=_joined(self.integer, bool),
            rows=sparse.csr_matrix((data, (row, column)), shape=(self.row_count, self.count)),
            row_lower=_joined(self.row_lower),
            row_upper=_joined(self.row_upper),
            row_error=_joined(self.row_error),
            region=region,
            inputs=inputs,
        )


def _joined(parts: Sequence[np.ndarray], dtype: type = float) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, dtype)
