"""Records what a module computes: torch's own operations, as its dispatcher sees them while the module runs.

The module runs once, as it is, on an example. Below autograd every call, of a layer, of a function, of an operator
such as ``+`` or of TorchScript, has become one of a few hundred ATen operations. Those whose operands depend on the
input are recorded; all others have been computed when they are met, so weights and what is made of them are constants.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode

from kreludomain.errors import InputError
from kreludomain.network.operators import Shape
from kreludomain.network.torch.memory import Memory, Value
from kreludomain.network.torch.places import Place, Places

Operation = torch._ops.OpOverload

_ATEN = torch.ops.aten
#: They give Python a number, which a module then branches on or computes with, unseen.
_TO_PYTHON = (_ATEN._local_scalar_dense.default, _ATEN.equal.default, _ATEN.is_nonzero.default)
#: What they return is whatever was in the memory.
_UNWRITTEN = ("empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided")
#: Of a tensor they want to know its shape only.
_SHAPED_ALIKE = (*_UNWRITTEN, "zeros_like", "ones_like", "full_like", "new_zeros", "new_ones", "new_full")
#: What they write does not depend on what was there.
_OVERWRITING = ("copy_", "fill_", "zero_")


@dataclass(frozen=True, eq=False)
class Step:
    """One operation: ``arguments`` by their names in torch's schema, defaults included; tensors in them are constants,
    :class:`Value` marks what depends on the input. ``results`` has ``None`` where the operation returns no tensor."""

    operation: Operation
    arguments: Mapping[str, Any]
    results: tuple[Value | None, ...]
    place: Place

    @property
    def name(self) -> str:
        """The operation's name in torch, such as ``add``; with the library's where it is not torch's own."""
        namespace, name = self.operation._schema.name.split("::")
        return name if namespace == "aten" else f"{namespace}.{name}"

    @property
    def values(self) -> Iterator[Value]:
        """The values that the operation takes."""
        for argument in self.arguments.values():
            for item in argument if isinstance(argument, list | tuple) else (argument,):
                if isinstance(item, Value):
                    yield item


@dataclass
class Record:
    """What a module computed: the input's value, and the operations in order."""

    input: Value
    steps: list[Step] = field(default_factory=list)

    def needed(self, output: Value) -> list[Step]:
        """The operations that a value depends on, in order."""
        wanted, kept = {output}, []
        for step in reversed(self.steps):
            if any(result in wanted for result in step.results):
                wanted.update(step.values)
                kept.append(step)
        return kept[::-1]


class Recorder(TorchDispatchMode):
    """Records the operations of ``module`` while it is the active dispatch mode of torch.

    Raises :class:`InputError` with the place where the module is no function of one input that a graph can state: it
    branches on the input's value, or draws random numbers.
    """

    def __init__(self, module: nn.Module, x: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.places = Places(module)
        self.record = Record(Value(tuple(x.shape), x.dtype))
        self._memory = Memory(self._append)
        self._memory.bind(x, self.record.input)
        self._outside: FrameType | None = sys._getframe(1)
        self._place = Place("", type(module).__name__)

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        return False  # torch would import its compiler, for seconds, only to keep it away from here

    def value(self, tensor: Tensor) -> Value | None:
        """The value of a tensor; ``None`` where it does not depend on the input."""
        return self._memory.value(tensor)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        arguments = _bound(func, args, kwargs or {})
        random = torch.Tag.nondeterministic_seeded in func.tags and arguments.get("training") is not False
        depends = any(self._memory.holds(tensor) for tensor in _tensors(arguments))
        name = func._schema.name.split("::")[1]
        if (not depends or name in _SHAPED_ALIKE) and not random:
            result = func(*args, **(kwargs or {}))
            if name in _UNWRITTEN:
                result.zero_()
            return result
        self._place = self.places.here(sys._getframe(1), self._outside)
        if random:
            raise self._refused("random numbers are drawn, as by dropout in training: no function of the input alone")
        if func in _TO_PYTHON:
            raise self._refused(
                "Python is given a number that depends on the input, to branch on it or to compute with it, so that "
                "what is computed may differ from input to input"
            )
        try:
            return self._recorded(func, arguments, args, kwargs or {})
        except InputError as error:
            raise self._refused(str(error)) from None

    def _refused(self, text: str) -> InputError:
        return InputError(self._place.refusal(text))

    def _recorded(self, func: Any, arguments: dict[str, Any], args: Any, kwargs: Any) -> Any:
        writes = (a.name for a in func._schema.arguments if a.alias_info is not None and a.alias_info.is_write)
        written = [name for name in writes if name != "noise"]  # of RReLU, which draws none in evaluation
        if not written or torch.Tag.inplace_view in func.tags:
            given = {name: self._given(argument) for name, argument in arguments.items()}
            returned = func(*args, **kwargs)
            tensors = returned if isinstance(returned, list | tuple) else (returned,)
            values = tuple(Value(tuple(t.shape), t.dtype) if isinstance(t, Tensor) else None for t in tensors)
            self.record.steps.append(Step(func, given, values, self._place))
            for tensor, value in zip(tensors, values, strict=True):
                if value is not None:
                    self._memory.bind(tensor, value)
            return returned
        target = arguments["self"] if written == ["self"] else None
        if target is None:
            raise InputError(f"{func._schema.name.split('::')[1]} writes its result into a tensor: not supported")
        contents = self._memory.contents(target)
        value = self._changed(func, arguments, target)
        returned = func(*args, **kwargs)
        self._memory.change(target, target.clone() if value is None else value, contents)
        return returned

    def _changed(self, func: Any, arguments: dict[str, Any], target: Tensor) -> Value | None:
        """The value that an operation in place writes into ``target``; ``None`` where it does not depend on the
        input."""
        name, shape = func._schema.name.split("::")[1], tuple(target.shape)
        if name in _OVERWRITING:
            source = arguments.get("src", arguments.get("value"))
            value = self._memory.value(source) if isinstance(source, Tensor) else None
            if value is None:
                return None
            return self._append(_ATEN.expand.default, {"self": value, "size": list(shape)}, shape, target.dtype)
        operation = getattr(getattr(_ATEN, name.removesuffix("_"), None), func._overloadname, None)
        if operation is None:
            raise InputError(f"the operation {name} is not supported")
        given = {key: self._given(argument) for key, argument in arguments.items()}
        return self._append(operation, given, shape, target.dtype)

    def _given(self, argument: Any) -> Any:
        if isinstance(argument, Tensor):
            value = self._memory.value(argument)
            return argument.detach().clone() if value is None else value
        if isinstance(argument, list | tuple):
            return [self._given(item) for item in argument]
        return argument

    def _append(self, operation: Operation, arguments: dict[str, object], shape: Shape, dtype: torch.dtype) -> Value:
        value = Value(shape, dtype)
        self.record.steps.append(Step(operation, arguments, (value,), self._place))
        return value


def _bound(func: Any, args: Any, kwargs: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of a call by their names, defaults included."""
    bound = dict(zip((a.name for a in func._schema.arguments), args, strict=False))
    for argument in func._schema.arguments[len(args) :]:
        if argument.name in kwargs or argument.has_default_value():
            bound[argument.name] = kwargs.get(argument.name, argument.default_value)
    return bound


def _tensors(arguments: Mapping[str, Any]) -> Iterator[Tensor]:
    for argument in arguments.values():
        for item in argument if isinstance(argument, list | tuple) else (argument,):
            if isinstance(item, Tensor):
                yield item
