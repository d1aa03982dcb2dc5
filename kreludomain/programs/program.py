"""The linear program of a relaxed network, in matrix form.

Variables are the input, the pre-activations of every neuron that is not always inactive, and the post-activations of
the unstable ones; every other value of the network is a sparse affine expression in these. Rows are affine layers as
equations, triangles of unstable neurons in no group, and the joint relaxations of the groups. The program is built once
for a network and a region; objectives only change the costs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property, singledispatch
from typing import NamedTuple

import numpy as np
import torch
from scipy import sparse

from kreludomain.domain import Abstraction, Bounds, Rounding
from kreludomain.domain.interval import interval
from kreludomain.groups import JointRelaxation, joint_hull, lifted
from kreludomain.network import Network
from kreludomain.network.operators import Activation, AffineOperator, Operator, PairMaximum
from kreludomain.property import Objective, Region
from kreludomain.rounding import ROUNDING, gamma


@dataclass(frozen=True, eq=False)
class Expression:
    """``matrix @ z + constant``: the value of a node, flat, in the program's variables, up to ``error``.

    ``error`` bounds what rounding did to the matrix and the constant, for all ``z`` within the variables' bounds.
    """

    matrix: sparse.csr_matrix
    constant: np.ndarray
    error: np.ndarray


class RowColumnBounds(NamedTuple):
    """What variables and rows of a program lie between; arrays of their sizes, infinite where a row has no side."""

    lower: np.ndarray
    upper: np.ndarray
    row_lower: np.ndarray
    row_upper: np.ndarray


@dataclass(frozen=True, eq=False)
class Triangles:
    """The unstable ReLUs that have a triangle of their own, of all layers: ``low < 0 < high``, and where they are.

    ``x`` and ``y`` are the columns before and after the ReLU, ``above`` the rows of the chords, ``below`` those of
    ``y - x >= 0``; ``position`` is flat within ``node``, the pre-activation. All arrays are ``(n,)``.
    """

    node: tuple[str, ...]
    position: np.ndarray
    low: np.ndarray
    high: np.ndarray
    x: np.ndarray
    y: np.ndarray
    above: np.ndarray
    below: np.ndarray

    @classmethod
    def joined(cls, parts: Sequence[Triangles]) -> Triangles:
        """Those of several layers as one."""
        nodes = tuple(name for part in parts for name in part.node)
        names = [each.name for each in fields(cls) if each.name != "node"]
        none = {name: np.zeros(0, float if name in ("low", "high") else int) for name in names}
        arrays = {name: np.concatenate([none[name], *(getattr(part, name) for part in parts)]) for name in names}
        return cls(nodes, **arrays)

    def __len__(self) -> int:
        return len(self.x)


@dataclass(frozen=True, eq=False)
class Program:
    """``row_lower <= rows @ z <= row_upper``, ``lower <= z <= upper``, ``z[:inputs]`` in the region.

    What the network computes satisfies each row up to its ``row_error``, which is rounding.

    All variables are bounded, which is what makes every dual point a certificate (:meth:`certified_minimum`).
    ``expressions`` has every node's value, ``triangles`` the ReLUs that are relaxed one by one. ``rounding`` is what
    objectives may have lost before they came here. ``notes`` tell where the relaxation is looser than asked for.
    """

    region: Region
    inputs: int
    lower: np.ndarray
    upper: np.ndarray
    rows: sparse.csr_matrix
    row_lower: np.ndarray
    row_upper: np.ndarray
    row_error: np.ndarray
    expressions: Mapping[str, Expression]
    triangles: Triangles
    rounding: Rounding
    notes: tuple[str, ...] = ()

    @property
    def sides(self) -> RowColumnBounds:
        """All bounds of variables and rows together."""
        return RowColumnBounds(self.lower, self.upper, self.row_lower, self.row_upper)

    @cached_property
    def _columns(self) -> tuple[sparse.csr_matrix, sparse.csr_matrix]:
        """The rows transposed, and the sizes of their entries."""
        columns = self.rows.T.tocsr()
        return columns, abs(columns)

    def costs(self, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
        """The objectives' costs ``(m, variables)``, and constants ``(m,)`` less what rounding did to both.

        What it did where an objective was pulled back is taken off as well.
        """
        expression = self.expressions[objective.node]
        rows = objective.coefficients[0].flatten(1).cpu().numpy()
        constant = objective.constant[0].cpu().numpy() + rows @ expression.constant
        costs = np.zeros((len(rows), len(self.lower)))
        costs[:, : expression.matrix.shape[1]] = (expression.matrix.T @ rows.T).T
        own = expression.error + gamma(rows.shape[1]) * _magnitude(expression, self.lower, self.upper)
        slack = np.abs(rows) @ own + gamma(1) * np.abs(objective.constant[0].cpu().numpy())
        before = objective.constant.new_zeros(objective.constant.shape) + self.rounding.of_start(objective)
        return costs, constant - slack - before[0].cpu().numpy()

    def certified_minimum(self, cost: np.ndarray, dual: np.ndarray, within: RowColumnBounds | None = None) -> float:
        """A lower bound of ``cost . z`` from ANY row multipliers ``dual``, by weak duality (Neumaier & Shcherbina
        2004).

        ``cost . z = dual . (rows z) + (cost - dual rows) . z``; the first term is bounded by the rows' sides, the
        second over the box and, for the input, over the region. A solver's answer is only ever used through this.
        ``within`` are other sides to bound it over; the input's stay the region's.
        """
        lower, upper, row_lower, row_upper = within or self.sides
        columns, sizes = self._columns
        finite = np.where(np.isfinite(dual), dual, 0.0)
        dual = np.where(np.where(finite > 0, np.isfinite(row_lower), np.isfinite(row_upper)), finite, 0.0)
        sides = np.where(dual > 0, row_lower, row_upper)
        sides = np.where(dual == 0, 0.0, sides)
        reduced = cost - columns @ dual
        at_input = torch.from_numpy(reduced[: self.inputs]).reshape(1, 1, *self.region.shape)
        rest, low, high = reduced[self.inputs :], lower[self.inputs :], upper[self.inputs :]
        over_box = np.where(rest > 0, rest * low, rest * high)
        terms = dual * sides
        # Rounding: of the sums themselves, and of the reduced costs, whose terms may cancel.
        spread = np.abs(cost) + sizes @ np.abs(dual)
        reach = np.maximum(np.abs(lower), np.abs(upper))
        relative = max(ROUNDING, gamma(max(self.rows.shape)))
        slack = relative * (np.abs(terms).sum() + spread @ reach) + np.abs(dual) @ self.row_error
        return float(
            terms.sum() + over_box.sum() + float(self.region.concretise(at_input.to(self.region.lower))) - slack
        )


def build_program(
    abstraction: Abstraction,
    joint: Mapping[str, Sequence[JointRelaxation]],
    node: str | None = None,
    formulation: str = "vertex",
) -> Program:
    """The program of everything below ``node`` (the output if not given), over an abstraction's bounds, of one region.

    ``joint`` has the joint relaxations by pre-activation node; unstable neurons in none of them get their triangle.
    ``formulation`` is ``vertex`` (points as convex combinations) or ``hull`` (facets by pycddlib).
    """
    network = abstraction.network
    builder = _Builder(abstraction, joint, formulation)
    for step in network.ancestors(network.output.name if node is None else node):
        if step is network.input:
            columns = builder.variables(abstraction.bounds[step.name])
            builder.expressions[step.name] = builder.selection(columns)
        else:
            builder.expressions[step.name] = encode(step.operator, builder, step.inputs)
    return builder.program()


@dataclass
class _Builder:
    """Variables, rows and expressions as they are collected, layer by layer."""

    abstraction: Abstraction
    joint: Mapping[str, Sequence[JointRelaxation]]
    formulation: str
    lower: list[np.ndarray] = field(default_factory=list)
    upper: list[np.ndarray] = field(default_factory=list)
    blocks: list[sparse.coo_matrix] = field(default_factory=list)
    row_lower: list[np.ndarray] = field(default_factory=list)
    row_upper: list[np.ndarray] = field(default_factory=list)
    row_error: list[np.ndarray] = field(default_factory=list)
    expressions: dict[str, Expression] = field(default_factory=dict)
    materialised: dict[str, np.ndarray] = field(default_factory=dict)
    triangles: list[Triangles] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    count: int = 0

    def new_columns(self, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
        """Positions of new variables with these bounds."""
        columns = np.arange(self.count, self.count + len(lower))
        self.lower.append(lower)
        self.upper.append(upper)
        self.count += len(lower)
        return columns

    def variables(self, bounds: Bounds) -> np.ndarray:
        return self.new_columns(*(v[0].flatten().cpu().numpy() for v in (bounds.lower, bounds.upper)))

    def selection(self, columns: np.ndarray, size: int | None = None, at: np.ndarray | None = None) -> Expression:
        """The expression whose entries ``at`` (all, if not given) are the variables ``columns``, the others zero."""
        size = len(columns) if size is None else size
        at = np.arange(size) if at is None else at
        matrix = sparse.csr_matrix((np.ones(len(columns)), (at, columns)), shape=(size, self.count))
        return Expression(matrix, np.zeros(size), np.zeros(size))

    def magnitude(self, expression: Expression) -> np.ndarray:
        """What the magnitudes of an expression's terms come to at most."""
        return _magnitude(expression, *(np.concatenate(side or [np.zeros(0)]) for side in (self.lower, self.upper)))

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
        size = matrix.shape[0]
        start = sum(block.shape[0] for block in self.blocks)
        self.blocks.append(sparse.coo_matrix(matrix))
        self.row_lower.append(np.broadcast_to(lower, (size,)).astype(float))
        self.row_upper.append(np.broadcast_to(upper, (size,)).astype(float))
        self.row_error.append(np.broadcast_to(error, (size,)).astype(float))
        return np.arange(start, start + size)

    def triplets(self, rows: np.ndarray, columns: np.ndarray, values: np.ndarray, size: int) -> sparse.coo_matrix:
        """A matrix of ``size`` rows from broadcastable positions and values."""
        parts = np.broadcast_arrays(values, rows, columns)
        data, row, column = (part.ravel() for part in parts)
        return sparse.coo_matrix((data, (row, column)), shape=(size, self.count))

    def pre_activation(self, name: str) -> np.ndarray:
        """Columns of a pre-activation's neurons, defined by equations, made once.

        -1, and no variable, where a neuron is always inactive and no curve takes it.
        """
        if name not in self.materialised:
            bounds, expression = self.abstraction.bounds[name][0], self.expressions[name]
            lower, upper = (v.flatten().cpu().numpy() for v in (bounds.lower, bounds.upper))
            curved = self.abstraction.network.feeds_smooth(name)
            kept = np.arange(len(upper)) if curved else np.flatnonzero(upper > 0)
            columns = np.full(len(lower), -1)
            columns[kept] = self.new_columns(lower[kept], upper[kept])
            definition = _widen(expression.matrix[kept], self.count) - self.selection(columns[kept]).matrix
            side = -expression.constant[kept]
            self.add_rows(definition, side, side, expression.error[kept])
            self.materialised[name] = columns
        return self.materialised[name]

    def program(self) -> Program:
        widths = [block.shape[0] for block in self.blocks]
        starts = np.concatenate([[0], np.cumsum(widths)]).astype(int)
        data = np.concatenate([b.data for b in self.blocks]) if self.blocks else np.zeros(0)
        row = np.concatenate([b.row + s for b, s in zip(self.blocks, starts[:-1], strict=True)] or [np.zeros(0, int)])
        column = np.concatenate([b.col for b in self.blocks] or [np.zeros(0, int)])
        return Program(
            region=self.abstraction.region,
            inputs=self.expressions[self.abstraction.network.input.name].matrix.shape[0],
            lower=np.concatenate(self.lower),
            upper=np.concatenate(self.upper),
            rows=sparse.csr_matrix((data, (row, column)), shape=(int(starts[-1]), self.count)),
            row_lower=np.concatenate(self.row_lower or [np.zeros(0)]),
            row_upper=np.concatenate(self.row_upper or [np.zeros(0)]),
            row_error=np.concatenate(self.row_error or [np.zeros(0)]),
            expressions=self.expressions,
            triangles=Triangles.joined(self.triangles),
            rounding=self.abstraction.rounding,
            notes=tuple(self.notes),
        )


@singledispatch
def encode(operator: Operator, builder: _Builder, inputs: tuple[str, ...]) -> Expression:
    """A node's value as an expression, with the rows and variables it needs. A new operator registers here."""
    raise TypeError(f"no linear program for {type(operator).__name__}")


@encode.register
def _(operator: AffineOperator, builder: _Builder, inputs: tuple[str, ...]) -> Expression:
    size = int(np.prod(operator.out_shape))
    matrix = sparse.csr_matrix((size, builder.count))
    constant = np.zeros(size) if operator.offset is None else operator.offset.flatten().cpu().numpy()
    error, magnitude = np.zeros(size), np.abs(constant)
    for position, name in enumerate(inputs):
        source, weight = builder.expressions[name], sparse_matrix(operator, builder.abstraction.network, position)
        matrix = matrix + _widen((weight @ source.matrix).tocsr(), builder.count)
        constant = constant + weight @ source.constant
        error = error + abs(weight) @ source.error
        magnitude = magnitude + abs(weight) @ (builder.magnitude(source) + source.error)
    return Expression(matrix.tocsr(), constant, error + gamma(operator.accumulation_length) * magnitude)


@encode.register
def _(operator: PairMaximum, builder: _Builder, inputs: tuple[str, ...]) -> Expression:
    """The sum that it is, and no more than the larger upper bound of what it compares."""
    _, b, relu = (builder.expressions[name] for name in inputs)
    matrix = _widen(b.matrix, builder.count) + _widen(relu.matrix, builder.count)
    constant = b.constant + relu.constant
    magnitude = builder.magnitude(b) + builder.magnitude(relu)
    error = b.error + relu.error + gamma(operator.accumulation_length) * magnitude
    value = Expression(matrix.tocsr(), constant, error)
    bounds, difference = builder.abstraction.bounds, builder.abstraction.network[inputs[2]].inputs[0]
    upper = torch.maximum(bounds[inputs[0]].upper, bounds[inputs[1]].upper)[0]
    open_ = np.flatnonzero(bounds[difference].unstable[0].flatten().cpu().numpy())
    if len(open_):
        cap = upper.flatten().cpu().numpy()[open_]
        off = error[open_] + gamma(1) * (np.abs(cap) + np.abs(constant[open_]))
        builder.add_rows(value.matrix[open_], -np.inf, cap - constant[open_], off)
    return value


@encode.register
def _(operator: Activation, builder: _Builder, inputs: tuple[str, ...]) -> Expression:
    return _relu(builder, inputs[0]) if operator.function.is_relu else _curve(operator, builder, inputs[0])


def _relu(builder: _Builder, name: str) -> Expression:
    """A ReLU's joint relaxations, and triangles of the unstable neurons in none."""
    bounds, x = builder.abstraction.bounds[name][0], builder.pre_activation(name)
    lower, upper = (v.flatten().cpu().numpy() for v in (bounds.lower, bounds.upper))
    unstable = (lower < 0) & (upper > 0)
    y = np.where(lower >= 0, x, -1)
    y[unstable] = builder.new_columns(np.zeros(int(unstable.sum())), upper[unstable])
    grouped = np.zeros(len(lower), dtype=bool)
    for joint in builder.joint.get(name, ()):
        members = joint.groups.numpy()
        if not unstable[members].all():  # what is stable by now has no variables of its own to relax
            keep = unstable[members].all(1)
            joint, members = joint.pick(torch.from_numpy(keep)), members[keep]
        if len(members):
            FORMULATIONS[builder.formulation](builder, joint, x[members], y[members])
            grouped[members] = True
    alone = np.flatnonzero(unstable & ~grouped)
    if len(alone):
        low, high, at = lower[alone], upper[alone], np.arange(len(alone))[:, None]
        slope, pairs = high / (high - low), np.stack([y[alone], x[alone]], 1)
        chord = builder.triplets(at, pairs, np.stack([0 * low + 1, -slope], 1), len(at))
        above = builder.add_rows(chord, -np.inf, -slope * low, gamma(1) * np.maximum(-low, high))
        below = builder.add_rows(builder.triplets(at, pairs, np.array([[1.0, -1.0]]), len(at)), 0.0, np.inf)
        names = (name,) * len(alone)
        builder.triangles.append(Triangles(names, alone, low, high, x[alone], y[alone], above, below))
    kept = np.flatnonzero(y >= 0)
    return builder.selection(y[kept], len(y), kept)


def _curve(operator: Activation, builder: _Builder, name: str) -> Expression:
    """Any other activation: lines below and above each neuron."""
    bounds, x = builder.abstraction.bounds[name][0], builder.pre_activation(name)
    y = builder.variables(interval(operator, bounds))
    bands, at = operator.function.tangents(bounds.lower.flatten(), bounds.upper.flatten()), np.arange(len(x))
    for lines, below in ((bands.below, True), (bands.above, False)):
        slope, intercept = (v.cpu().numpy() for v in (lines.slope, lines.intercept))
        for i in range(len(slope)):  # y - slope x, against the intercept; lines that are the one before are left out
            new = np.flatnonzero((slope[i] != slope[i - 1]) | (i == 0))
            columns, values = np.stack([y[new], x[new]], 1), np.stack([np.ones(len(new)), -slope[i, new]], 1)
            rows = builder.triplets(at[: len(new), None], columns, values, len(new))
            side = intercept[i, new]
            builder.add_rows(rows, *((side, np.inf) if below else (-np.inf, side)))
    return builder.selection(y)


def _vertex_rows(builder: _Builder, joint: JointRelaxation, x: np.ndarray, y: np.ndarray) -> None:
    """``(x_g, y_g) = sum_v weight_v (v, ReLU(v))``, weights in the simplex."""
    points = lifted(joint.vertices).cpu().numpy()  # (G, V, 2k)
    groups, count, width = points.shape
    weights = builder.new_columns(np.zeros(groups * count), np.ones(groups * count)).reshape(groups, count)
    columns = np.concatenate([x, y], axis=1)  # (G, 2k)
    row = np.arange(groups * width).reshape(groups, width)
    combined = builder.triplets(row[:, None, :], weights[:, :, None], points, groups * width)
    combined -= builder.triplets(row, columns, np.ones(1), groups * width)
    builder.add_rows(combined, 0.0, 0.0)
    builder.add_rows(builder.triplets(np.arange(groups)[:, None], weights, np.ones(1), groups), 1.0, 1.0)


def _hull_rows(builder: _Builder, joint: JointRelaxation, x: np.ndarray, y: np.ndarray) -> None:
    """The facets of each group's hull."""
    hulls = [joint_hull(vertices) for vertices in joint.vertices]
    columns = np.concatenate([x, y], axis=1)
    for hull, at in zip(hulls, columns, strict=True):
        rows = np.arange(len(hull.offsets))[:, None]
        matrix = builder.triplets(rows, at[None, :], hull.normals.numpy(), len(hull.offsets))
        builder.add_rows(matrix, -np.inf, hull.offsets.numpy())
    loose = sum(not hull.exact for hull in hulls)
    if loose:
        builder.notes.append(f"{loose} of {len(hulls)} hulls may miss facets (still sound)")


#: How the joint relaxation of a group becomes rows of the program, by name.
FORMULATIONS: dict[str, Callable[[_Builder, JointRelaxation, np.ndarray, np.ndarray], None]] = {
    "vertex": _vertex_rows,
    "hull": _hull_rows,
}


def _magnitude(expression: Expression, lower: np.ndarray, upper: np.ndarray) -> np.ndarray:
    """What the magnitudes of an expression's terms come to at most, for variables within bounds."""
    width = expression.matrix.shape[1]
    reach: np.ndarray = abs(expression.matrix) @ np.maximum(np.abs(lower), np.abs(upper))[:width]
    return reach + np.abs(expression.constant)


def _widen(matrix: sparse.csr_matrix, columns: int) -> sparse.csr_matrix:
    """The same matrix with zero columns up to ``columns``."""
    return sparse.csr_matrix((matrix.data, matrix.indices, matrix.indptr), shape=(matrix.shape[0], columns))


def sparse_matrix(operator: AffineOperator, network: Network, position: int, rows: int = 256) -> sparse.csr_matrix:
    """An affine operator's matrix on one of its inputs, ``(outputs, inputs)``, from its transpose on unit vectors."""
    size = int(np.prod(operator.out_shape))
    parts = []
    for start in range(0, size, rows):
        unit = torch.zeros(min(rows, size - start), size, dtype=network.dtype, device=network.device)
        unit[torch.arange(len(unit)), torch.arange(start, start + len(unit))] = 1.0
        back = operator.transpose(unit.unflatten(1, operator.out_shape))[position]
        parts.append(sparse.csr_matrix(back.flatten(1).cpu().numpy()))
    return sparse.vstack(parts, format="csr")
