"""The linear relaxation of a network as a program: triangles, joint relaxations of groups, tangents of curves.

Variables are the input, the pre-activations of every neuron that is not always inactive, and the post-activations of
the unstable ones; every other value of the network is a sparse affine expression in these. Rows are affine layers as
equations, triangles of unstable neurons in no group, and the joint relaxations of the groups. The program is built once
for a network and a region; objectives only change the costs.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields

import numpy as np
import torch

from kreludomain.domain import Abstraction, Rounding
from kreludomain.domain.interval import interval
from kreludomain.errors import InputError
from kreludomain.groups import JointRelaxation
from kreludomain.network import Node
from kreludomain.network.operators import Activation, PairMaximum
from kreludomain.programs.encode import NetworkEncoder
from kreludomain.programs.expressions import Affine
from kreludomain.programs.formulations import FORMULATIONS
from kreludomain.programs.model import Model, Program
from kreludomain.property import Objective, Region
from kreludomain.rounding import gamma


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
class RelaxedNetwork:
    """The relaxation of a network over a region as a :class:`Program`, which solvers take, and how to read it.

    ``region`` is the program's, a batch of one. ``values`` has every node's value, ``triangles`` the ReLUs that are
    relaxed one by one. ``rounding`` bounds the error of pulling objectives back. ``notes`` tell where the relaxation is
    looser than asked for.
    """

    region: Region
    program: Program
    values: Mapping[str, Affine]
    triangles: Triangles
    rounding: Rounding
    notes: tuple[str, ...] = ()

    def costs(self, objective: Objective) -> tuple[np.ndarray, np.ndarray]:
        """The objectives' costs ``(m, variables)``, and constants ``(m,)`` less the rounding error of both.

        The rounding error of pulling an objective back is taken off as well.
        """
        program, value = self.program, self.values[objective.node]
        rows = objective.coefficients[0].flatten(1).cpu().numpy()
        constant = objective.constant[0].cpu().numpy() + rows @ value.constant
        costs = np.zeros((len(rows), len(program.lower)))
        costs[:, : value.matrix.shape[1]] = (value.matrix.T @ rows.T).T
        own = value.error + gamma(rows.shape[1]) * value.magnitude(program.lower, program.upper)
        slack = np.abs(rows) @ own + gamma(1) * np.abs(objective.constant[0].cpu().numpy())
        before = objective.constant.new_zeros(objective.constant.shape) + self.rounding.start_error(objective)
        return costs, constant - slack - before[0].cpu().numpy()


def relax_network(
    abstraction: Abstraction,
    joint: Mapping[str, Sequence[JointRelaxation]] | None = None,
    node: str | None = None,
    formulation: str = "vertex",
) -> RelaxedNetwork:
    """The relaxation of everything below ``node`` (the output if not given), over an abstraction's bounds.

    ``joint`` has the joint relaxations by pre-activation node; unstable neurons in none of them get their triangle.
    ``formulation`` is ``vertex`` (points as convex combinations) or ``hull`` (facets by pycddlib). Raises
    :class:`InputError` for a batch of several regions.
    """
    network, region, model = abstraction.network, abstraction.region, Model()
    if region.batch != 1:
        raise InputError(f"region: a batch of {region.batch}; a program takes one region at a time")
    encoder = RelaxedEncoder(model, network, abstraction.bounds, joint=joint or {}, formulation=formulation)
    x = model.variables(*encoder.flat_bounds(network.input.name))
    values = encoder.encode(x, node)
    program = model.program(region, len(x))
    notes = (*encoder.notes, *([no_rows_note(region)] if program.region_rows is None else []))
    return RelaxedNetwork(region, program, values, Triangles.joined(encoder.triangles), abstraction.rounding, notes)


def no_rows_note(region: Region) -> str:
    """The note of a program over a region that declares no rows."""
    kind = type(region).__name__
    return f"region: the own shape of {kind} is not in the program (no program_rows): its bounding box is used"


@dataclass
class RelaxedEncoder(NetworkEncoder):
    """Convex relaxations: the triangle of a ReLU, the joint relaxation of a group, tangents of other activations."""

    joint: Mapping[str, Sequence[JointRelaxation]] = field(default_factory=dict)
    formulation: str = "vertex"
    triangles: list[Triangles] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    _columns: dict[str, np.ndarray] = field(default_factory=dict)

    def pre_activation(self, name: str) -> np.ndarray:
        """Columns of a pre-activation's neurons, defined by equations, made once.

        -1, and no variable, where a neuron is always inactive and no curve takes it.
        """
        if name not in self._columns:
            lower, upper = self.flat_bounds(name)
            kept = np.arange(len(upper)) if self.network.feeds_smooth(name) else np.flatnonzero(upper > 0)
            columns = np.full(len(lower), -1)
            columns[kept] = self.model.define(self.values[name][kept], lower[kept], upper[kept])
            self._columns[name] = columns
        return self._columns[name]

    def relu(self, node: Node) -> Affine:
        name = node.inputs[0]
        x, (lower, upper) = self.pre_activation(name), self.flat_bounds(name)
        unstable = (lower < 0) & (upper > 0)
        y = np.where(lower >= 0, x, -1)
        y[unstable] = self.model.columns(np.zeros(int(unstable.sum())), upper[unstable])
        grouped = self._joint_relaxations(name, unstable, x, y)
        alone = np.flatnonzero(unstable & ~grouped)
        if len(alone):
            self._triangles(name, alone, lower[alone], upper[alone], x[alone], y[alone])
        kept = np.flatnonzero(y >= 0)
        return Affine.of_columns(y[kept], self.model.count, len(y), kept)

    def _joint_relaxations(self, name: str, unstable: np.ndarray, x: np.ndarray, y: np.ndarray) -> np.ndarray:
        """Adds the rows of a layer's groups; which neurons are in one."""
        grouped = np.zeros(len(unstable), dtype=bool)
        for joint in self.joint.get(name, ()):
            members = joint.groups.numpy()
            if not unstable[members].all():  # a neuron that is stable by now has no variables of its own to relax
                keep = unstable[members].all(1)
                joint, members = joint.pick(torch.from_numpy(keep)), members[keep]
            if len(members):
                self.notes += FORMULATIONS[self.formulation](self.model, joint, x[members], y[members])
                grouped[members] = True
        return grouped

    def _triangles(
        self, name: str, position: np.ndarray, low: np.ndarray, high: np.ndarray, x: np.ndarray, y: np.ndarray
    ) -> None:
        """Adds the chord above and ``y >= x`` of each neuron; ``y >= 0`` is a bound of the variable."""
        at, size = np.arange(len(position))[:, None], len(position)
        slope, pairs = high / (high - low), np.stack([y, x], 1)
        chord = self.model.triplets(at, pairs, np.stack([0 * low + 1, -slope], 1), size)
        above = self.model.add_rows(chord, -np.inf, -slope * low, gamma(1) * np.maximum(-low, high))
        below = self.model.add_rows(self.model.triplets(at, pairs, np.array([[1.0, -1.0]]), size), 0.0, np.inf)
        self.triangles.append(Triangles((name,) * size, position, low, high, x, y, above, below))

    def activation(self, node: Node, operator: Activation) -> Affine:
        """Several lines below and above each neuron."""
        bounds, x = self.bounds[node.inputs[0]][0], self.pre_activation(node.inputs[0])
        image = interval(operator, bounds)
        low, high = (side[0].flatten().cpu().numpy() for side in (image.lower, image.upper))
        y = self.model.columns(low, high)
        bands, at = operator.function.tangents(bounds.lower.flatten(), bounds.upper.flatten()), np.arange(len(x))
        for lines, below in ((bands.below, True), (bands.above, False)):
            slope, intercept = (v.cpu().numpy() for v in (lines.slope, lines.intercept))
            for i in range(
                len(slope)
            ):  # y - slope x, against the intercept; lines that are the one before are left out
                new = np.flatnonzero((slope[i] != slope[i - 1]) | (i == 0))
                columns, values = np.stack([y[new], x[new]], 1), np.stack([np.ones(len(new)), -slope[i, new]], 1)
                rows = self.model.triplets(at[: len(new), None], columns, values, len(new))
                side = intercept[i, new]
                self.model.add_rows(rows, *((side, np.inf) if below else (-np.inf, side)))
        return self.model.at(y)

    def maximum(self, node: Node, operator: PairMaximum) -> Affine:
        """The sum that it is, and no more than the larger upper bound of the two values that it compares."""
        _, b, relu = (self.values[name] for name in node.inputs)
        magnitude = self.model.magnitude(b) + self.model.magnitude(relu)
        value = (b + relu).blurred(gamma(operator.accumulation_length) * magnitude)
        upper = np.maximum(*(self.flat_bounds(name)[1] for name in node.inputs[:2]))
        low, high = self.flat_bounds(self.network[node.inputs[2]].inputs[0])
        unstable = np.flatnonzero((low < 0) & (high > 0))
        if len(unstable):
            constant, cap = value.constant[unstable], upper[unstable]
            off = value.error[unstable] + gamma(1) * (np.abs(cap) + np.abs(constant))
            self.model.add_rows(value.matrix[unstable], -np.inf, cap - constant, off)
        return value
