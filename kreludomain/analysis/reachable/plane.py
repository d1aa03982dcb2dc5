"""The reachable set of a network in a plane, as a method sees it: a polygon around everything that can occur."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np
import torch
from torch import Tensor

from kreludomain.analysis.reachable.polygon import Support, outward
from kreludomain.deadline import Deadline
from kreludomain.domain import Abstraction
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Objective


@dataclass(frozen=True, eq=False)
class Plane:
    """Two linear expressions in the values of a node: ``rows @ value``, with ``rows`` ``(2, size of the node)``."""

    node: str
    rows: Tensor

    @classmethod
    def of(cls, network: Network, x: Tensor, y: Tensor, node: str | None = None) -> Plane:
        """The plane of the expressions ``x`` and ``y``, ``(size,)`` each, at a node (the output if not given).

        Raises :class:`InputError` for a node that does not exist, a wrong size, and rows that span no plane.
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
        """Where inputs ``(N, *input_shape)`` come to lie, ``(N, 2)``."""
        with torch.no_grad():
            value = network.values(x.to(dtype=network.dtype, device=network.device))[self.node]
            result: np.ndarray = (value.flatten(1) @ self.rows.to(value).T).cpu().double().numpy()
        return result

    def objective(self, network: Network, directions: np.ndarray) -> Objective:
        """``d . p`` for each direction ``(m, 2)`` of the plane."""
        return Objective.linear(network, self.node, torch.from_numpy(directions) @ self.rows)


@dataclass(frozen=True, eq=False)
class Bounded:
    """The supports of an abstraction's set in a plane: sound upper bounds of ``d . p`` over the region, ``(m,)``.

    They are those of a convex set for interval, zonotope and the linear programs. DeepPoly's need not be: it chooses
    lines for each direction anew, so its polygon is that of the directions asked, and further ones may cut it further.
    ``notes`` collects what the abstraction has to say about its bounds.
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


def support(abstraction: Abstraction, plane: Plane, deadline: Deadline = Deadline()) -> Support:
    """An abstraction's set in a plane, as :func:`circumscribe` wants it."""
    return Bounded(abstraction, plane, deadline)


def protrusions(polygons: Sequence[np.ndarray]) -> list[float]:
    """How far each convex polygon but the first sticks out of the one before it, in the plane's units; below 0: it lies
    inside."""
    return [float(outward(outer, inner).max()) for outer, inner in pairwise(polygons)]
