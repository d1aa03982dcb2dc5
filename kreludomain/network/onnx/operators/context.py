"""The arguments and the result of a reader of one ONNX operator (an entry of ``READERS``)."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.graph import Node
from kreludomain.network.lowering import Decomposition, chain
from kreludomain.network.operators import Concat, Gather, Operator, Permute, Reshape, Scale, Shape


def compact(shape: Shape) -> Shape:
    """The shape of a node's value for an ONNX shape: without a leading dimension of 1; ``(1,)`` for a scalar.

    Entries keep their order, so it does not matter whether that dimension was the batch.
    """
    return (shape[1:] if len(shape) > 1 and shape[0] == 1 else shape) or (1,)


class Converted(NamedTuple):
    """An ONNX node, converted.

    ``made``: its operator, or the decomposition into several; ``None`` where the value is the first input's, unchanged.
    ``shape``: the value's shape in ONNX, batch included. ``condition``: the node's value is whether that is positive.
    """

    made: Operator | Decomposition | None
    shape: Shape
    condition: bool = False


class GraphBuilder(Protocol):
    """The graph that precedes a node: its constants, the ONNX shapes of its values and the names of the nodes that
    compute them, by the values' names; those of them that are conditions; and the nodes by their names."""

    constants: dict[str, np.ndarray]
    shapes: dict[str, Shape]
    computed_by: dict[str, str]
    conditions: set[str]
    nodes_by_name: dict[str, Node]

    def value_of(self, node: str, shape: Shape) -> str:
        """A name for the value of a node, under an ONNX shape."""
        ...

    def insert(self, made: Operator | Decomposition, *names: str, shape: Shape | None = None) -> str:
        """Appends an operator with the values ``names`` as its inputs; returns the name of the new value, of an ONNX
        shape that is by default the operator's."""
        ...


@dataclass
class NodeContext:
    """One ONNX node while it is read; ``inputs`` are names of values, empty for an optional input that is absent.

    ``outputs``: how many outputs it has.
    """

    op_type: str
    inputs: list[str]
    attributes: dict[str, Any]
    source: GraphBuilder
    outputs: int = 1

    def constant(self, position: int) -> np.ndarray | None:
        """Input ``position`` if it is there and a constant; else ``None``."""
        name = self.inputs[position] if position < len(self.inputs) else ""
        return self.source.constants.get(name)

    def optional(self, position: int, name: str) -> np.ndarray | None:
        """Input ``position``, a constant, or ``None`` where the node does not have it."""
        present = position < len(self.inputs) and self.inputs[position] != ""
        return self.required(position, name) if present else None

    def required(self, position: int, name: str) -> np.ndarray:
        """Input ``position``, a constant. Raises :class:`InputError` that calls it ``name`` where it is none."""
        value = self.constant(position)
        if value is None:
            raise InputError(f"{name} must be a constant")
        return value

    def shape(self, position: int = 0) -> Shape:
        """The shape of an input in ONNX, batch included."""
        name = self.inputs[position]
        return self.source.constants[name].shape if name in self.source.constants else self.source.shapes[name]

    def size(self, position: int = 0) -> int:
        return int(np.prod(self.shape(position), dtype=np.int64))

    def attribute(self, name: str, default: Any = None) -> Any:
        return self.attributes.get(name, default)

    def axis(self, name: str, default: int, rank: int) -> int:
        """An attribute that counts one of ``rank`` axes, from 0."""
        axis = int(self.attribute(name, default))
        if not -rank <= axis < rank:
            raise InputError(f"{name} {axis} of a value with {rank} axes")
        return axis % rank

    def is_condition(self, position: int = 0) -> bool:
        """Whether an input is a condition that depends on the network's input."""
        return self.inputs[position] in self.source.conditions

    @property
    def dependent(self) -> list[int]:
        """The inputs, by their positions, that depend on the network's input."""
        return [i for i, name in enumerate(self.inputs) if name in self.source.shapes]

    def join(self, made: Operator | Decomposition) -> None:
        """Replaces the inputs by one: an operator of all those that depend on the network's input."""
        self.inputs[:] = [self.source.insert(made, *(self.inputs[i] for i in self.dependent))]

    def replace(self, converted: Converted) -> None:
        """Replaces the inputs by one: what was made of all those that depend on the network's input."""
        if converted.made is not None:
            names = (self.inputs[i] for i in self.dependent)
            self.inputs[:] = [self.source.insert(converted.made, *names, shape=converted.shape)]

    def insert_before(self, made: Operator | Decomposition, position: int = 0) -> None:
        """Inserts an operator of one input between input ``position`` and the node."""
        self.inputs[position] = self.source.insert(made, self.inputs[position])

    def reshape(self, given: Shape, wanted: Shape, position: int = 0) -> None:
        """Reshapes input ``position`` from the compact shape ``given`` to ``wanted``, if they differ."""
        if given != wanted:
            self.insert_before(Reshape(given, wanted), position)

    def reshaped(self, shape: Shape) -> Converted:
        """The first input, reshaped to another ONNX shape."""
        given, wanted = compact(self.shape()), compact(shape)
        return Converted(None if given == wanted else Reshape(given, wanted), shape)

    def arrange(self, order: Sequence[int], wanted: Shape, position: int = 0) -> None:
        """Brings input ``position`` into another order of its ONNX axes, and then into our shape ``wanted``."""
        for step in rearranged(self.shape(position), order, wanted):
            self.insert_before(step, position)

    def selected(self, index: np.ndarray) -> Converted:
        """Entries of the first input at flat positions ``index``, in the shape of the value, -1 for zeros."""
        return self.placed(compact(self.shape()), index, np.zeros(1))

    def assembled(self, which: Sequence[int], combine: Callable[[list[np.ndarray]], np.ndarray]) -> Converted:
        """Entries of the inputs ``which``, constants among them.

        ``combine`` makes the value from arrays of the inputs' shapes, and does nothing but move entries about: it is
        applied to positions, and to the constants.
        """
        values, start = [i for i in which if self.constant(i) is None], 0
        positions, constants = [], []
        for i in which:
            constant = self.constant(i)
            if constant is None:
                positions.append(start + np.arange(self.size(i)).reshape(self.shape(i)))
                constants.append(np.zeros(self.shape(i)))
                start += self.size(i)
            else:
                positions.append(np.full(constant.shape, -1))
                constants.append(constant.astype(np.float64))
        index, shift = combine(positions), combine(constants)
        if len(values) > 1:
            for i in values:
                self.reshape(compact(self.shape(i)), (self.size(i),), i)
            self.join(Concat(tuple((self.size(i),) for i in values), 0))
            return self.placed((start,), index, shift)
        self.inputs[:] = [self.inputs[i] for i in values]
        return self.placed(compact(self.shape()), index, shift)

    def placed(self, given: Shape, index: np.ndarray, shift: np.ndarray) -> Converted:
        """Entries of the first input, of our shape ``given``, at flat positions ``index`` (-1: none), plus
        ``shift``."""
        if not index.size:
            raise InputError("nothing of the value is left")
        shape, made = compact(index.shape), list[Operator]()
        if index.size != math.prod(given) or (index.ravel() != np.arange(index.size)).any():
            chosen = np.ascontiguousarray(index, dtype=np.int64).reshape(shape)
            made.append(Gather(given, torch.from_numpy(chosen)))
        elif given != shape:
            made.append(Reshape(given, shape))
        if shift.any():
            made.append(Scale(torch.ones((), dtype=torch.float64), fitted(shift, index.shape), shape))
        return Converted(chain(*made) if made else None, index.shape)

    def positions(self) -> np.ndarray:
        """The flat position of every entry of the first input, in its shape."""
        return np.arange(self.size()).reshape(self.shape())

    def broadcast(self, position: int, shape: Shape) -> None:
        """Broadcasts input ``position`` to an ONNX shape."""
        given = self.shape(position)
        if given == shape:
            return
        index = np.broadcast_to(np.arange(self.size(position)).reshape(given), shape)
        if index.size == self.size(position):
            self.reshape(compact(given), compact(shape), position)
        else:
            chosen = torch.from_numpy(np.ascontiguousarray(index).reshape(compact(shape)))
            self.insert_before(Gather(compact(given), chosen), position)


def rearranged(shape: Shape, order: Sequence[int], wanted: Shape, given: Shape | None = None) -> list[Operator]:
    """What brings a value of an ONNX shape into another order of its axes, and then into our shape ``wanted``.

    ``given`` is our shape of it before that, by default the compact one.
    """
    given, steps = compact(shape) if given is None else given, list[Operator]()
    longer = [axis for axis in order if shape[axis] != 1]  # axes of one entry move nothing
    if longer != sorted(longer):
        squeezed = tuple(n for n in shape if n != 1)
        steps += [] if given == squeezed else [Reshape(given, squeezed)]
        steps.append(Permute(squeezed, tuple(sorted(longer).index(axis) for axis in longer)))
        given = steps[-1].out_shape
    return steps if given == wanted else [*steps, Reshape(given, wanted)]


def weight(value: np.ndarray) -> Tensor:
    """A constant in float64."""
    return torch.from_numpy(np.array(value, dtype=np.float64))


def fitted(value: np.ndarray, shape: Shape) -> Tensor:
    """A constant that broadcasts to the ONNX shape ``shape``, brought into a form that broadcasts to the compact
    one."""
    constant = weight(value)
    aligned = constant.reshape((1,) * (len(shape) - constant.dim()) + tuple(constant.shape))
    dropped = len(shape) > 1 and shape[0] == 1
    return aligned[0] if dropped else aligned
