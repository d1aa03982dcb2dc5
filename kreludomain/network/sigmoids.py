"""Networks that end in sigmoids: the same network with what the sigmoids are given in their place.

A sigmoid grows with its input and is 1/2 at 0, so comparisons of two outputs, and with 1/2, can be asked of the logits.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from kreludomain.activations import Sigmoid
from kreludomain.network.operators import Activation, Concat, Gather, Pad, Permute, Reshape, Scale, Sum

if TYPE_CHECKING:
    from kreludomain.network.graph import Network

#: Operators that may come after the last sigmoids: ``1 - y`` and the like, and moving entries about.
_AFTER = (Concat, Gather, Pad, Permute, Reshape, Scale, Sum)
#: More sigmoids than this are bounded as any other activation is.
_MOST = 1 << 12


@dataclass(frozen=True, eq=False)
class SigmoidEnd:
    """A network whose outputs are ``A sigmoid(z) + b``, every entry of ``A`` and ``b`` one of -1, 0, 1.

    ``A`` is ``(outputs, n)``, ``b`` ``(outputs,)``. ``logits`` is the network with ``A z + b`` for its outputs. Its
    nodes have the same names; ``changed`` are those whose values are others.
    """

    A: Tensor
    b: Tensor
    logits: Network
    changed: frozenset[str]


def sigmoid_end(network: Network) -> SigmoidEnd | None:
    """The sigmoids that a network ends in; ``None`` if it ends in something else."""
    if network.terms is not None:  # replayed on the models of two networks
        return None
    last, sigmoids = {network.output.name}, []
    for node in reversed(network.nodes):
        if node.name not in last:
            continue
        if isinstance(node.operator, Activation) and isinstance(node.operator.function, Sigmoid):
            sigmoids.append(node)
        elif isinstance(node.operator, _AFTER):
            last.update(node.inputs)
        else:
            return None
    names, size = {node.name for node in sigmoids}, sum(network.size(node.name) for node in sigmoids)
    if size > _MOST or not (network.model is None or names <= network.model.values()):
        return None
    given = torch.eye(size + 1, size, dtype=torch.float64).roll(1, 0)
    parts = given.split([network.size(node.name) for node in sigmoids], 1)
    values = {node.name: part.reshape(-1, *node.shape) for node, part in zip(sigmoids, parts, strict=True)}
    nodes = list(network.nodes)
    for position, node in enumerate(nodes):
        if node.name in names:
            nodes[position] = dataclasses.replace(node, operator=Reshape(node.shape, node.shape))
        elif node.name in last:
            values[node.name] = node.operator.to(dtype=torch.float64)(*(values[name] for name in node.inputs))
    outputs = values[network.output.name].flatten(1)
    A, b = (outputs[1:] - outputs[0]).T, outputs[0]
    if not bool(torch.isin(torch.cat([A.flatten(), b]), torch.tensor([-1.0, 0.0, 1.0], dtype=torch.float64)).all()):
        return None
    model = network.model
    passing = None if model is None else dataclasses.replace(model, passed=(*model.passed, *sorted(names)))
    return SigmoidEnd(A, b, dataclasses.replace(network, nodes=tuple(nodes), model=passing), frozenset(last | names))
