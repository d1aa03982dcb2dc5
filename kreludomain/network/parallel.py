"""Parallel ReLUs of twin branches, put into one node, so that groups can hold neurons of both.

Where a network and its copy run side by side, as in their difference, each layer of one has its counterpart in the
other, in another node. Joint relaxations are of one node's neurons: so the pre-activations of such nodes are joined,
one ReLU takes all of them, and its value is taken apart again. The function is the same, and so are the nodes' names.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace

import torch
from torch import Tensor

from kreludomain.activations import Relu
from kreludomain.network.graph import Network, Node
from kreludomain.network.operators import Activation, Concat, Gather, PairMaximum, Reshape
from kreludomain.network.twins import nearest_twins, random_inputs

#: Nodes are parallel branches of twins if at least this part of the neurons of the one have a twin in the other.
_LEAST_PART = 0.5


def joined_branches(network: Network) -> Network:
    """The network with the ReLUs of twin branches joined; itself where there are none.

    Two ReLUs are, if equally many activations lie before both, their shapes are the same but for ones, and most of
    their neurons are twins (:func:`nearest_twins`). Networks without parallel ReLUs of one shape, which most are, are
    not looked at any further.
    """
    same = [nodes for nodes in _alike(network) if len(nodes) > 1]
    if not same:
        return network
    values = network.values(random_inputs(network.input.shape).to(dtype=network.dtype, device=network.device))
    groups = [group for nodes in same for group in _twin_branches(nodes, values) if len(group) > 1]
    return _joined(network, groups) if groups else network


def _alike(network: Network) -> list[list[Node]]:
    """The ReLUs of different values with the same shape, but for ones, and as many activations before them.

    Those of maxima are left out: methods know a maximum by its ReLU.
    """
    maxima = {node.inputs[-1] for node in network.nodes if isinstance(node.operator, PairMaximum)}
    depth, found = dict[str, int](), dict[tuple[object, ...], dict[str, Node]]()
    for node in network.nodes:
        depth[node.name] = max((depth[name] for name in node.inputs), default=0)
        if isinstance(node.operator, Activation):
            if node.is_relu and node.shape and node.name not in maxima:
                shape = tuple(size for size in node.shape if size > 1)
                found.setdefault((depth[node.name], shape), {}).setdefault(node.inputs[0], node)
            depth[node.name] += 1
    return [list(nodes.values()) for nodes in found.values()]


def _twin_branches(nodes: Sequence[Node], values: Mapping[str, Tensor]) -> list[list[Node]]:
    """The nodes in groups: each with the first group whose first node has most of its neurons' twins."""
    groups: list[list[Node]] = []
    for node in nodes:
        for group in groups:
            first, own = (values[n.inputs[0]].flatten(1) for n in (group[0], node))
            pairs = nearest_twins(torch.cat([first, own], dim=1))
            across = (pairs[:, 0] < first.shape[1]) & (pairs[:, 1] >= first.shape[1])
            if int(across.sum()) >= max(1, _LEAST_PART * first.shape[1]):
                group.append(node)
                break
        else:
            groups.append([node])
    return groups


def _joined(network: Network, groups: Sequence[Sequence[Node]]) -> Network:
    """The network with each group's ReLUs as one node, and all nodes in topological order again."""
    changed = {node.name: node for group in groups for node in _joined_nodes(network, group)}
    nodes = {node.name: node for node in network.nodes} | changed
    ordered = dict[str, Node]()
    for node in network.nodes:
        _append(node.name, nodes, ordered)
    return replace(network, nodes=tuple(ordered.values()))


def _joined_nodes(network: Network, group: Sequence[Node]) -> Iterator[Node]:
    """Nodes that join the pre-activations, apply ReLU, and take its value apart into the group's own nodes."""
    taken, shape = {node.name for node in network.nodes}, group[0].shape

    def free(name: str) -> str:
        return free(name + "'") if name in taken else name

    sources = []
    for node in group:
        source = node.inputs[0]
        if node.shape != shape:
            made = Node(free(f"{source}, reshaped"), Reshape(node.shape, shape), (source,))
            source = made.name
            yield made
        sources.append(source)
    join = Concat((shape,) * len(group), axis=0)
    joined = Node(free(" and ".join(node.inputs[0] for node in group)), join, tuple(sources))
    relu = Node(free(" and ".join(node.name for node in group)), Activation(Relu(), join.out_shape), (joined.name,))
    yield from (joined, relu)
    parts = torch.arange(math.prod(join.out_shape)).chunk(len(group))
    for node, part in zip(group, parts, strict=True):
        yield Node(node.name, Gather(join.out_shape, part.view(node.shape)), (relu.name,))


def _append(name: str, nodes: Mapping[str, Node], ordered: dict[str, Node]) -> None:
    """Appends a node after all that it depends on."""
    waiting = [name]
    while waiting:
        node = nodes[waiting[-1]]
        missing = [source for source in node.inputs if source not in ordered]
        waiting += missing
        if not missing:
            ordered.setdefault(node.name, node)
            waiting.pop()
