"""The difference of two networks with the same input: ``x -> f(x) - g(x)``."""

from __future__ import annotations

import math
from dataclasses import replace

from kreludomain.errors import InputError
from kreludomain.network.graph import Network, Node
from kreludomain.network.operators import Input, Reshape, Shape, Sum
from kreludomain.network.parallel import joined_branches


def difference(first: Network, second: Network) -> Network:
    """The network ``x -> first(x) - second(x)``, with the input's and the output's shape of the first.

    Its nodes are those of both, named ``a: ...`` and ``b: ...``, its output is ``difference``; ReLUs of layers that
    correspond are joined (``network/parallel.py``). Counterexamples are replayed on both networks' own models
    (``network.terms``). Shapes may differ by axes of one entry, and an input or output may be flat in one of the two.

    Raises :class:`InputError` for inputs or outputs of other shapes, and where only one of the networks is read up to
    logits: its outputs are not those of its file.
    """
    for what in ("input", "output"):
        one, other = (getattr(network, what).shape for network in (first, second))
        if not _same(one, other):
            raise InputError(f"the networks' {what}s are of different shapes, {one} and {other}")
    _require_same_heads(first, second)
    source = Node(first.input.name, Input(first.input.shape))
    nodes = [source]
    ends = []
    for letter, network in (("a", first), ("b", second)):
        made = _renamed(network, letter, source)
        nodes += made
        end = made[-1] if made else source  # a network that is its input
        if end.shape != first.output.shape:
            end = Node(f"{letter}: output, reshaped", Reshape(end.shape, first.output.shape), (end.name,))
            nodes.append(end)
        ends.append(end.name)
    nodes.append(Node("difference", Sum((1, -1), first.output.shape), tuple(ends)))
    return joined_branches(Network(tuple(nodes), terms=(first, second)))


def _renamed(network: Network, letter: str, source: Node) -> list[Node]:
    """The nodes of one network behind the common input, with its letter before their names."""
    names, made = {node.name: f"{letter}: {node.name}" for node in network.nodes}, list[Node]()
    if network.input.shape == source.shape:
        names[network.input.name] = source.name
    else:
        reshape = Reshape(source.shape, network.input.shape)
        made.append(Node(names[network.input.name], reshape, (source.name,)))
    for node in network.nodes[1:]:
        made.append(replace(node, name=names[node.name], inputs=tuple(names[name] for name in node.inputs)))
    return made


def _same(one: Shape, other: Shape) -> bool:
    """Whether two shapes are the same but for axes of one entry, or one of them is flat."""
    wide, other_wide = ([size for size in shape if size > 1] for shape in (one, other))
    flat = math.prod(one) == math.prod(other) and min(len(wide), len(other_wide)) <= 1
    return wide == other_wide or flat


def _require_same_heads(first: Network, second: Network) -> None:
    kinds = [None if network.head is None else network.head.kind for network in (first, second)]
    if kinds[0] != kinds[1]:
        ends = " and ".join("nothing" if kind is None else kind for kind in kinds)
        raise InputError(
            f"a last Softmax or ArgMax is left out when a network is read: here, {ends}; outputs before and "
            "after it are not compared"
        )
