"""The projection of a node's values onto a plane, and a method's bounds of it in every direction of that plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from torch import Tensor

from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Objective


def linear_expression(given: int | Mapping[int, float] | Sequence[float], size: int) -> Tensor:
    """Weights ``(size,)`` of a node's entries: one entry by its position, weights by position, or a weight for each.

    Raises :class:`InputError` for a position that there is not, and for another number of weights than ``size``.
    """
    if isinstance(given, Sequence):
        if len(given) != size:
            raise InputError(f"{len(given)} weights, the node has {size} entries")
        return torch.tensor(given, dtype=torch.float64)
    weights = {given: 1.0} if isinstance(given, int) else given
    row = torch.zeros(size, dtype=torch.float64)
    for position, weight in weights.items():
        if not 0 <= position < size:
            raise InputError(f"there is no entry {position}, the node has {size} (from 0)")
        row[position] = weight
    return row


@dataclass(frozen=True, eq=False)
class Plane:
    """The projection ``p = rows @ value(node)``, ``rows`` ``(2, size of the node)``: two linear expressions as axes."""

    node: str
    rows: Tensor

    @classmethod
    def of(cls, network: Network, x: Tensor, y: Tensor, node: str | None = None) -> Plane:
        """The plane of the expressions ``x`` and ``y``, ``(size,)`` each, at a node (the output if not given).

        Raises :class:`InputError` for a node that does not exist, an expression of another size, and expressions that
        are parallel or zero.
        """
        name = network.output.name if node is None else network[node].name
        given = [torch.as_tensor(v, dtype=torch.float64).flatten() for v in (x, y)]
        for row in given:
            if len(row) != network.size(name):
                raise InputError(f"plane: a direction of {len(row)} entries, node '{name}' has {network.size(name)}")
        rows = torch.stack(given)
        if int(torch.linalg.matrix_rank(rows)) < 2:
            raise InputError("plane: the two directions are parallel or zero, they span no plane")
        return cls(name, rows)

    def points(self, network: Network, x: Tensor) -> np.ndarray:
        """The projections ``(N, 2)`` of the node's values at inputs ``(N, *input_shape)``."""
        with torch.no_grad():
            value = network.values(x.to(dtype=network.dtype, device=network.device))[self.node]
            result: np.ndarray = (value.flatten(1) @ self.rows.to(value).T).cpu().double().numpy()
        return result

    def objective(self, network: Network, directions: np.ndarray) -> Objective:
        """``d . p`` for each direction ``d`` of ``directions`` ``(m, 2)``, as ``m`` objectives at the node."""
        return Objective.linear(network, self.node, torch.from_numpy(directions) @ self.rows)


@dataclass(frozen=True, eq=False)
class SupportBounds:
    """An abstraction (of one region) as the support function of its set in a plane.

    Called with directions ``(m, 2)``, it returns sound upper bounds ``(m,)`` of ``d . p`` over the region, as
    :func:`~kreludomain.analysis.reachable.circumscribe` takes them.

    For interval, zonotope and the linear programs they are the support function of one convex set. DeepPoly's need not
    be: it chooses its linear bounds for each direction anew, so the polygon depends on which directions are asked, and
    more of them may make it smaller. After the ``deadline`` the bounds found by then are returned. ``notes`` collects
    the abstraction's notes.

    Raises :class:`InputError` for a batch of several regions.
    """

    abstraction: Abstraction
    plane: Plane
    deadline: Deadline = field(default_factory=Deadline)
    notes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.abstraction.region.batch != 1:
            raise InputError(f"region: a batch of {self.abstraction.region.batch}; show takes one region at a time")
        self.notes.extend(self.abstraction.notes)

    def __call__(self, directions: np.ndarray) -> np.ndarray:
        objective = self.plane.objective(self.abstraction.network, -directions)
        minima = self.abstraction.minimise(objective, self.deadline)
        self.notes.extend(note for note in minima.notes if note not in self.notes)
        result: np.ndarray = -minima.lower[0].cpu().double().numpy()
        return result
