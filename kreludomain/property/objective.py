"""Objectives: linear expressions in the values of one node, which every method bounds from below.

A margin, a neuron's lower bound, its upper bound (negated), a direction of an octahedron, a subproblem's claim: all are
objectives, so all go through the same call.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import AffineOperator


@dataclass(frozen=True, eq=False)
class Objective:
    """``m`` linear expressions ``coefficients . value(node) + constant`` for each of ``B`` regions.

    ``coefficients`` is ``(B, m, *shape of the node)``, ``constant`` ``(B, m)``; ``B`` may be 1 where all regions of a
    batch share the expressions.

    ``pullback_history``: the nodes it was pulled back over, and the coefficients that it had there. Methods that bound
    it account for the rounding errors of these steps.
    """

    node: str
    coefficients: Tensor
    constant: Tensor
    pullback_history: tuple[tuple[str, Tensor], ...] = ()

    @classmethod
    def neurons(cls, network: Network, node: str, indices: Tensor) -> Objective:
        """The neurons ``indices`` (flat positions, ``(m,)``) of a node, one objective each."""
        one_hot = torch.zeros(len(indices), network.size(node), dtype=network.dtype, device=network.device)
        one_hot[torch.arange(len(indices)), indices] = 1.0
        return cls.linear(network, node, one_hot)

    @classmethod
    def linear(cls, network: Network, node: str, rows: Tensor, constant: Tensor | None = None) -> Objective:
        """``rows . value(node) + constant``, with ``rows`` ``(m, size)`` or ``(B, m, size)`` over flat positions."""
        rows = rows.to(dtype=network.dtype, device=network.device)
        rows = rows if rows.dim() == 3 else rows[None]
        if rows.shape[-1] != network.size(node):
            raise InputError(f"objective: rows of {rows.shape[-1]} entries, node '{node}' has {network.size(node)}")
        if constant is None:
            constant = rows.new_zeros(rows.shape[:2])
        constant = constant.to(rows).expand(rows.shape[:2])
        return cls(node, rows.unflatten(2, network[node].shape), constant)

    @property
    def count(self) -> int:
        """``m``: how many expressions."""
        return self.coefficients.shape[1]

    def __neg__(self) -> Objective:
        return Objective(self.node, -self.coefficients, -self.constant, self.pullback_history)

    def pulled_back(self, network: Network) -> Objective:
        """The same expressions at an earlier node: pushed over affine operators of one input, which costs nothing.

        An expression and its negation share this part of their back-substitution.
        """
        objective, node = self, network[self.node]
        while isinstance(node.operator, AffineOperator) and len(node.inputs) == 1:
            (coefficients,), constant = node.operator.backward(objective.coefficients)
            pullback_history = (*objective.pullback_history, (objective.node, objective.coefficients))
            objective = Objective(node.inputs[0], coefficients, objective.constant + constant, pullback_history)
            node = network[objective.node]
        return objective

    def rows(self, start: int, stop: int) -> Objective:
        """Expressions ``start`` to ``stop - 1``."""
        return self._each(lambda value: value[:, start:stop])

    def select(self, positions: Tensor) -> Objective:
        """The expressions at ``positions``, in this order."""
        return self._each(lambda value: value.index_select(1, positions))

    def to(self, like: Tensor) -> Objective:
        """The same expressions in the dtype and on the device of a tensor."""
        return self._each(lambda value: value.to(like))

    def _each(self, change: Callable[[Tensor], Tensor]) -> Objective:
        """The objectives with ``change`` applied to every tensor."""
        pullback_history = tuple((name, change(coefficients)) for name, coefficients in self.pullback_history)
        return Objective(self.node, change(self.coefficients), change(self.constant), pullback_history)

    def chunks(self, most: int) -> Iterator[Objective]:
        """The expressions in runs of at most ``most``."""
        for start in range(0, self.count, max(1, most)):
            yield self.rows(start, start + max(1, most))

    def evaluate(self, value: Tensor) -> Tensor:
        """The expressions at values ``(N, *shape)`` of the node: ``(N, m)``; for a batch of one or ``N``."""
        return torch.einsum("bmi,bi->bm", self.coefficients.flatten(2).expand(len(value), -1, -1), value.flatten(1)) + (
            self.constant
        )


def chunk_rows(network: Network, node: str, batch: int, memory_mb: int) -> int:
    """How many objectives at ``node`` may go through back-substitution at once within ``memory_mb`` MiB."""
    widest = max(math.prod(n.shape) for n in network.ancestors(node))
    copies = 6  # coefficients of a node and its inputs, their sign split, and what an operator works with
    return max(1, int(memory_mb * 2**20 / (8 * copies * widest * batch)))
