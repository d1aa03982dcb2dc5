"""A network: a directed acyclic graph of operators with one input and one output."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.head import Head
from kreludomain.network.images import Layout, input_layout
from kreludomain.network.onnx.model import OnnxModel
from kreludomain.network.operators import Activation, Concat, Input, Operator, Shape
from kreludomain.network.sigmoids import SigmoidEnd, sigmoid_end
from kreludomain.network.twins import MOST_COMPARED, nearest_twins, random_inputs


@dataclass(frozen=True)
class Node:
    """An operator with a name and the names of the nodes whose values it takes."""

    name: str
    operator: Operator
    inputs: tuple[str, ...] = ()

    @property
    def shape(self) -> Shape:
        """Shape of the node's value, without batch."""
        return self.operator.out_shape

    @property
    def is_relu(self) -> bool:
        """Whether the operator is a ReLU."""
        return isinstance(self.operator, Activation) and self.operator.function.is_relu


@dataclass(frozen=True, eq=False)
class Network:
    """Nodes in topological order: the first is the :class:`Input`, the last is the output.

    ``model`` is the ONNX model the network was read from, if any; counterexamples are replayed on it. ``head`` is what
    the model has after the network's output, if it was read up to its logits. ``terms`` are the two networks that it is
    the difference of, if it is one: counterexamples are replayed on the models of both.

    Raises :class:`InputError` that names the node when a weight is not finite, or inputs do not fit an operator.
    """

    nodes: tuple[Node, ...]
    model: OnnxModel | None = dataclasses.field(default=None, repr=False)
    head: Head | None = None
    terms: tuple[Network, Network] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not self.nodes or not isinstance(self.nodes[0].operator, Input):
            raise InputError("a network starts with its input node")
        seen: dict[str, Shape] = {}
        for node in self.nodes:
            for name, tensor in node.operator.tensors().items():
                if not torch.isfinite(tensor).all():
                    raise InputError(f"node '{node.name}': {name} contains NaN or infinite values")
            for source in node.inputs:
                if source not in seen:
                    raise InputError(f"node '{node.name}': input '{source}' is not a node before it")
            given, wanted = tuple(seen[source] for source in node.inputs), node.operator.in_shapes
            if given != wanted:
                raise InputError(f"node '{node.name}': takes inputs of shapes {wanted}, is given {given}")
            if node.name in seen:
                raise InputError(f"node '{node.name}': there are two nodes of this name")
            seen[node.name] = node.shape

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs ``(N, *output_shape)`` for inputs ``(N, *input_shape)``."""
        return self.values(x)[self.output.name]

    def values(self, x: Tensor) -> dict[str, Tensor]:
        """The value of every node, ``(N, *shape)``, for inputs ``(N, *input_shape)``."""
        values = {self.input.name: x}
        for node in self.nodes[1:]:
            values[node.name] = node.operator(*(values[name] for name in node.inputs))
        return values

    def __getitem__(self, name: str) -> Node:
        try:
            return self._by_name[name]
        except KeyError:
            raise InputError(f"the network has no node '{name}'; it has {', '.join(self._by_name)}") from None

    @property
    def input(self) -> Node:
        """The node that is the network's input."""
        return self.nodes[0]

    @property
    def output(self) -> Node:
        """The node whose value is the network's."""
        return self.nodes[-1]

    @property
    def notes(self) -> tuple[str, ...]:
        """Remarks on how the network was read: what was left out."""
        if self.terms is not None and self.terms[0].head is not None:
            kind = self.terms[0].head.kind
            return (
                f"both networks end in a {kind}, which is left out: their difference is that of the logits before it",
            )
        return () if self.head is None else (self.head.note,)

    @cached_property
    def input_layout(self) -> Layout | None:
        """How the network takes images: ``"chw"`` or ``"hwc"``; ``None`` where its input is none, or could be both."""
        return input_layout(self.nodes)

    @cached_property
    def sigmoid_end(self) -> SigmoidEnd | None:
        """The sigmoids that the network ends in, if it does."""
        return sigmoid_end(self)

    @cached_property
    def activations(self) -> tuple[Node, ...]:
        """The nodes whose operator is an activation, in topological order."""
        return tuple(node for node in self.nodes if isinstance(node.operator, Activation))

    @cached_property
    def pre_activations(self) -> tuple[str, ...]:
        """The nodes whose value an activation takes, in topological order, each once."""
        sources = {node.inputs[0] for node in self.activations}
        return tuple(node.name for node in self.nodes if node.name in sources)

    def consumers(self, name: str) -> tuple[Node, ...]:
        """The nodes that take the value of a node."""
        return self._consumers.get(self[name].name, ())

    def feeds_relu(self, name: str) -> bool:
        """Whether a ReLU takes the value of a node: what joint relaxations, signs and pieces are about."""
        return any(node.is_relu for node in self.consumers(name))

    def feeds_smooth(self, name: str) -> bool:
        """Whether an activation takes the value of a node that is not linear on either side of zero, as a ReLU is: then
        more than the value's sign matters."""
        activations = (node.operator for node in self.consumers(name) if isinstance(node.operator, Activation))
        return any(not operator.function.linear_by_sign for operator in activations)

    def require_relus(self, purpose: str) -> None:
        """Raises :class:`InputError` that names the first activation which is not a ReLU; ``purpose`` is its
        subject."""
        for node in self.activations:
            if not node.is_relu:
                raise InputError(
                    f"node '{node.name}' ({node.operator.kind}): {purpose} take networks whose activations are ReLUs"
                )

    @cached_property
    def twins(self) -> Mapping[str, Tensor]:
        """Neurons of one pre-activation of ReLUs whose values are nearly the same on random inputs, by its name.

        Disjoint pairs of flat positions, ``(P, 2)``. Only layers most of whose neurons have a twin have an entry, as
        those of a network and its copy side by side. They are looked for where a layer joins parallel ones, and in
        networks whose first layer has them.
        """
        names = [name for name in self.pre_activations if self.feeds_relu(name)]
        x = random_inputs(self.input.shape).to(dtype=self.dtype, device=self.device)
        if not self._has_twins_at_first(names, x):
            names = [name for name in names if isinstance(self[name].operator, Concat)]
        values = self.values(x) if names else {}
        found = {name: nearest_twins(values[name].flatten(1)) for name in names}
        return {name: pairs for name, pairs in found.items() if len(pairs)}

    def _has_twins_at_first(self, names: Sequence[str], x: Tensor) -> bool:
        if not names or self.size(names[0]) > MOST_COMPARED:
            return False
        first = Network(self.ancestors(names[0]))
        return len(nearest_twins(first(x).flatten(1))) > 0

    def ancestors(self, name: str) -> tuple[Node, ...]:
        """The node and everything its value depends on, in topological order."""
        return self._ancestors(self[name].name)

    def size(self, name: str) -> int:
        """How many entries the value of a node has."""
        return math.prod(self[name].shape)

    @property
    def dtype(self) -> torch.dtype:
        """The dtype of the weights, float64 where there are none."""
        tensors = (t for node in self.nodes for t in node.operator.tensors().values())
        return next((t.dtype for t in tensors if t.is_floating_point()), torch.float64)

    @property
    def device(self) -> torch.device:
        """Where the weights are."""
        return next((t.device for node in self.nodes for t in node.operator.tensors().values()), torch.device("cpu"))

    def to(self, *, dtype: torch.dtype | None = None, device: torch.device | str | None = None) -> Network:
        """The same network with its weights in another dtype or on another device; itself where they are so already."""
        tensors = [t for node in self.nodes for t in node.operator.tensors().values()]
        same = all(t.dtype == dtype for t in tensors if t.is_floating_point()) or dtype is None
        if same and (device is None or all(t.device == torch.device(device) for t in tensors)):
            return self
        moved = (dataclasses.replace(n, operator=n.operator.to(dtype=dtype, device=device)) for n in self.nodes)
        return dataclasses.replace(self, nodes=tuple(moved))

    @cached_property
    def _by_name(self) -> Mapping[str, Node]:
        return {node.name: node for node in self.nodes}

    @cached_property
    def _consumers(self) -> Mapping[str, tuple[Node, ...]]:
        found: dict[str, tuple[Node, ...]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.inputs):
                found[name] = (*found.get(name, ()), node)
        return found

    @cached_property
    def _ancestry(self) -> dict[str, tuple[Node, ...]]:
        return {}

    def _ancestors(self, name: str) -> tuple[Node, ...]:
        if name not in self._ancestry:
            needed = {name}
            for node in reversed(self.nodes):
                if node.name in needed:
                    needed.update(node.inputs)
            self._ancestry[name] = tuple(node for node in self.nodes if node.name in needed)
        return self._ancestry[name]


def trim(nodes: Iterable[Node], output: str) -> tuple[Node, ...]:
    """Only the nodes that ``output`` depends on, with ``output`` last; the input always stays."""
    nodes = tuple(nodes)
    needed = {output, nodes[0].name}
    for node in reversed(nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return tuple(node for node in nodes if node.name in needed)
