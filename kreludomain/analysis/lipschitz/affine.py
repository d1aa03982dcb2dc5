"""The affine maps between the activations of a network: with the slopes of the ReLUs they make up its Jacobians."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.network import Network, Node
from kreludomain.network.operators import Activation, AffineOperator, Input, Shape

#: Columns or rows of a matrix that are computed at once.
CHUNK = 256


@dataclass(frozen=True, eq=False)
class AffineMap:
    """The linear part ``A`` of the map from ``source`` to ``target`` through affine operators only.

    ``nodes`` are the nodes on the paths from ``source`` to ``target``, in topological order, without the source; none
    where source and target are the same node.
    """

    source: Node
    target: Node
    nodes: tuple[Node, ...]

    @property
    def in_shape(self) -> Shape:
        """Shape of the source's value, without batch."""
        return self.source.shape

    @property
    def out_shape(self) -> Shape:
        """Shape of the target's value, without batch."""
        return self.target.shape

    @cached_property
    def size(self) -> tuple[int, int]:
        """Entries of the target and of the source: the shape of the matrix."""
        return torch.Size(self.out_shape).numel(), torch.Size(self.in_shape).numel()

    @torch.no_grad()
    def __call__(self, x: Tensor) -> Tensor:
        """``A x``, ``(N, *out_shape)``, for ``(N, *in_shape)``."""
        values = {self.source.name: x}
        for node in self.nodes:
            shapes = zip(node.inputs, node.operator.in_shapes, strict=True)
            inputs = (values[name] if name in values else x.new_zeros(len(x), *shape) for name, shape in shapes)
            values[node.name] = affine(node).linear(*inputs)
        return values[self.target.name]

    @torch.no_grad()
    def transpose(self, a: Tensor) -> Tensor:
        """``A^T a``, ``(N, *in_shape)``, for ``(N, *out_shape)``."""
        on_path, pending = {self.source.name, *(n.name for n in self.nodes)}, {self.target.name: a}
        for node in reversed(self.nodes):
            for name, part in zip(node.inputs, affine(node).transpose(pending.pop(node.name)), strict=True):
                if name in on_path:
                    pending[name] = pending[name] + part if name in pending else part
        return pending[self.source.name]

    @cached_property
    def matrix(self) -> Tensor:
        """``A`` as a matrix ``(outputs, inputs)``; rows or columns are computed, whichever are fewer."""
        outputs, inputs = self.size
        apply, shape, size = (
            (self.__call__, self.in_shape, inputs) if inputs <= outputs else (self.transpose, self.out_shape, outputs)
        )
        unit = torch.eye(size, dtype=torch.float64).reshape(size, *shape)
        rows = torch.cat([apply(part).flatten(1) for part in unit.split(CHUNK)])
        return rows.T.contiguous() if inputs <= outputs else rows


@dataclass(frozen=True, eq=False)
class Layer:
    """A pre-activation, or the output, as the sum of affine maps of activations and of the input."""

    target: Node
    maps: tuple[AffineMap, ...]


def layers(network: Network) -> tuple[Layer, ...]:
    """The network as layers, in topological order; the output is the last. A chain has one map in each.

    Raises :class:`InputError` where an activation is not a ReLU.
    """
    network.require_relus("Lipschitz constants")
    network = network.to(dtype=torch.float64, device="cpu")
    targets = dict.fromkeys((*network.pre_activations, network.output.name))
    return tuple(Layer(network[name], tuple(_maps(network, name))) for name in targets)


def _maps(network: Network, target: str) -> Iterator[AffineMap]:
    between, pending = {target}, [target]
    sources: dict[str, None] = {}
    while pending:
        node = network[pending.pop()]
        if isinstance(node.operator, Activation | Input):
            sources[node.name] = None
            continue
        pending += [name for name in node.inputs if name not in between]
        between |= set(node.inputs)
    for source in (node for node in network.nodes if node.name in sources):
        reached, nodes = {source.name}, []
        for node in network.nodes:
            if not (node.name in between and isinstance(node.operator, AffineOperator)):
                continue
            if reached & set(node.inputs):
                reached.add(node.name)
                nodes.append(node)
        yield AffineMap(source, network[target], tuple(nodes))


def affine(node: Node) -> AffineOperator:
    """The node's operator, which is affine."""
    if not isinstance(node.operator, AffineOperator):
        raise TypeError(f"node '{node.name}': {type(node.operator).__name__} is not affine")
    return node.operator
