"""A network as variables and rows of a program: the one encoder, whose subclasses say how activations become rows.

Values of nodes are affine expressions, so that affine layers need neither variables nor rows of their own. What a ReLU
becomes is up to the subclass: a relaxation (:mod:`~kreludomain.programs.relaxed`), exact with binaries
(:mod:`~kreludomain.programs.exact`), or the difference of two evaluations (:mod:`kreludomain.analysis.invert`).
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import singledispatch

import numpy as np
import torch
from scipy import sparse

from kreludomain.domain import LayerBounds
from kreludomain.errors import InputError
from kreludomain.network import Network, Node
from kreludomain.network.operators import Activation, AffineOperator, Operator, PairMaximum
from kreludomain.programs.expressions import Affine, widen
from kreludomain.programs.model import Model
from kreludomain.rounding import gamma


@dataclass
class NetworkEncoder(ABC):
    """Encodes a network of one region's bounds into a model; ``values`` are the nodes' values so far, flat."""

    model: Model
    network: Network
    bounds: LayerBounds
    values: dict[str, Affine] = field(default_factory=dict)

    #: Whether affine layers keep their constants; differences of two evaluations have none.
    offsets = True

    def encode(self, x: Affine, upto: str | None = None) -> Mapping[str, Affine]:
        """The values of all nodes that ``upto`` (the output, if not given) needs, at the input ``x``.

        Raises :class:`InputError` for an operator that the encoder does not take.
        """
        for node in self.network.ancestors(self.network.output.name if upto is None else upto):
            self.values[node.name] = x if node is self.network.input else encode_operator(node.operator, self, node)
        return self.values

    @abstractmethod
    def relu(self, node: Node) -> Affine:
        """The value of a ReLU, with the variables and rows that it needs."""

    def activation(self, node: Node, operator: Activation) -> Affine:
        """The value of another activation, with the variables and rows that it needs."""
        raise InputError(
            f"node '{node.name}': {operator.kind} is neither affine nor a ReLU, which is all a program can say"
        )

    def maximum(self, node: Node, operator: PairMaximum) -> Affine:
        """The value of a maximum of two, which is a sum."""
        return self.affine(node, operator)

    def affine(self, node: Node, operator: AffineOperator) -> Affine:
        """The value of an affine operator, with the error of computing its coefficients."""
        size = int(np.prod(operator.out_shape))
        matrix = sparse.csr_matrix((size, self.model.count))
        offset = operator.offset if self.offsets else None
        constant = np.zeros(size) if offset is None else offset.flatten().cpu().numpy()
        error, magnitude = np.zeros(size), np.abs(constant)
        for position, name in enumerate(node.inputs):
            source, weight = self.values[name], sparse_matrix(operator, self.network, position)
            matrix = matrix + widen((weight @ source.matrix).tocsr(), self.model.count)
            constant = constant + weight @ source.constant
            error = error + abs(weight) @ source.error
            magnitude = magnitude + abs(weight) @ (self.model.magnitude(source) + source.error)
        return Affine(matrix.tocsr(), constant, error + gamma(operator.accumulation_length) * magnitude)

    def flat_bounds(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """A node's lower and upper bounds, flat."""
        bounds = self.bounds[name]
        lower, upper = (side[0].flatten().double().cpu().numpy() for side in (bounds.lower, bounds.upper))
        return lower, upper


@singledispatch
def encode_operator(operator: Operator, encoder: NetworkEncoder, node: Node) -> Affine:
    """A node's value as an expression, by its operator's type. A new kind of operator registers here."""
    raise TypeError(f"no program for {type(operator).__name__}")


@encode_operator.register
def _(operator: AffineOperator, encoder: NetworkEncoder, node: Node) -> Affine:
    return encoder.affine(node, operator)


@encode_operator.register
def _(operator: PairMaximum, encoder: NetworkEncoder, node: Node) -> Affine:
    return encoder.maximum(node, operator)


@encode_operator.register
def _(operator: Activation, encoder: NetworkEncoder, node: Node) -> Affine:
    return encoder.relu(node) if node.is_relu else encoder.activation(node, operator)


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
