"""What the writer of an operation works with."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import numpy as np
from torch import Tensor

from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.recorder import Step

#: A number or a tensor of numbers, constant or dependent on the input.
Operand = Value | Tensor | float


class Graph(Protocol):
    """The ONNX graph while it is made: see :class:`kreludomain.network.torch.model.Graph`."""

    number: np.dtype[Any]

    @property
    def made_by(self) -> Mapping[Value, Step]: ...

    def add(self, op_type: str, *inputs: str, **attributes: Any) -> str: ...

    def operand(self, argument: Operand) -> str: ...

    def integers(self, numbers: int | Iterable[int] | np.ndarray) -> str: ...

    def shaped(self, name: str, shape: Sequence[int]) -> str: ...


Writer = Callable[[Graph, Step], str | Sequence[str]]


def axes_of(step: Step, argument: str, rank: int) -> list[int]:
    """The axes that an argument names, counted from 0; all of them where it names none."""
    given = step.arguments.get(argument)
    given = [given] if isinstance(given, int) else given
    return sorted(axis % max(rank, 1) for axis in given) if given else list(range(rank))


def result_shape(step: Step, position: int = 0) -> tuple[int, ...]:
    value = step.results[position]
    return () if value is None else value.shape
