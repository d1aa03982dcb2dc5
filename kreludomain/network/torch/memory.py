"""Which recorded value a tensor holds: operations in place change every tensor that shares the memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.operators import Shape


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor that depends on the network's input."""

    shape: Shape
    dtype: torch.dtype


#: How a tensor lies in its storage: sizes, strides, offset, dtype.
Layout = tuple[Shape, tuple[int, ...], int, torch.dtype]
#: ``(operation, arguments, shape, dtype) -> value`` appends an operation to the record.
Append = Callable[[torch._ops.OpOverload, dict[str, object], Shape, torch.dtype], Value]

_TAKE, _PUT = torch.ops.aten.take.default, torch.ops.aten.put.default


def layout(tensor: Tensor) -> Layout:
    return tuple(tensor.shape), tuple(tensor.stride()), int(tensor.storage_offset()), tensor.dtype


@dataclass
class _Cell:
    """A storage: the value of all of it, which lies in it as ``base`` says, and the values that tensors of other
    layouts have now."""

    base: Layout
    values: dict[Layout, Value]


class Memory:
    """The values of tensors, by where they lie in which storage.

    A tensor that another one was changed through has the value of its entries of the whole storage (``take``); a change
    of a part of a storage is a change of the whole (``put``). So the record knows only operations that return new
    values.
    """

    def __init__(self, append: Append) -> None:
        self._append = append
        self._cells: dict[int, _Cell] = {}
        self._kept: list[Tensor] = []  # while a tensor lives, no other one gets its storage

    def holds(self, tensor: Tensor) -> bool:
        """Whether a tensor depends on the input."""
        return tensor.untyped_storage()._cdata in self._cells

    def value(self, tensor: Tensor) -> Value | None:
        """The value of a tensor now; ``None`` for a constant."""
        cell = self._cells.get(tensor.untyped_storage()._cdata)
        if cell is None:
            return None
        key = layout(tensor)
        if key not in cell.values:
            arguments = {"self": cell.values[cell.base], "index": _index(tensor, cell.base)}
            cell.values[key] = self._append(_TAKE, arguments, tuple(tensor.shape), tensor.dtype)
        return cell.values[key]

    def bind(self, tensor: Tensor, value: Value) -> None:
        """Notes the value of a tensor that an operation returned: its own storage, or a view of one that is known."""
        self._kept.append(tensor)
        key = layout(tensor)
        cell = self._cells.setdefault(tensor.untyped_storage()._cdata, _Cell(key, {}))
        cell.values[key] = value

    def contents(self, tensor: Tensor) -> Tensor | None:
        """The constants of a tensor's whole storage, flat, before a part of it depends on the input."""
        if self.holds(tensor) or tensor.numel() == _capacity(tensor):
            return None
        return tensor.as_strided((_capacity(tensor),), (1,), 0).clone()

    def change(self, tensor: Tensor, value: Value | Tensor, contents: Tensor | None) -> None:
        """Notes that a tensor was changed in place to ``value``, a constant if it is a tensor; ``contents`` is what
        :meth:`contents` was before."""
        self._kept.append(tensor)
        storage, key = tensor.untyped_storage()._cdata, layout(tensor)
        cell = self._cells.get(storage)
        if tensor.numel() == _capacity(tensor) or (cell is not None and cell.base == key):
            self._cells.pop(storage, None)
            if isinstance(value, Value):
                self._cells[storage] = _Cell(key, {key: value})
            return
        if cell is None:
            if contents is None:
                return  # constants in constants
            base: Layout = (tuple(contents.shape), (1,), 0, tensor.dtype)
            whole: object = contents
        else:
            base, whole = cell.base, cell.values[cell.base]
        arguments = {"self": whole, "index": _index(tensor, base), "source": value}
        changed = self._append(_PUT, arguments, base[0], tensor.dtype)
        self._cells[storage] = _Cell(base, {base: changed})
        if isinstance(value, Value):
            self._cells[storage].values[key] = value


def _capacity(tensor: Tensor) -> int:
    return tensor.untyped_storage().nbytes() // tensor.element_size()


def _index(tensor: Tensor, base: Layout) -> Tensor:
    """Where the entries of a tensor are among those of a tensor that lies in the same storage as ``base`` says."""
    sizes, strides, offset, dtype = base
    if tensor.dtype != dtype:
        raise InputError("a view of the same memory under another dtype is not supported")
    where = torch.full((_capacity(tensor),), -1, dtype=torch.int64)
    inner = where.as_strided(sizes, strides, offset)
    inner.copy_(torch.arange(inner.numel()).view(sizes))
    index = where.as_strided(tensor.shape, tensor.stride(), tensor.storage_offset()).clone()
    if int(index.min()) < 0:
        raise InputError("a view of memory that no operation has written is not supported")
    return index
