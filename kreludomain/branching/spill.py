"""Records of tensors that wait their turn: in memory as long as they fit, then in temporary files."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

#: How much a page of records takes, in MiB.
_PAGE_MB = 8


class SpillStore:
    """Records of one kind, each in a place that it leaves when it is taken.

    ``fields`` has the shape and dtype of each tensor of a record. Pages beyond ``memory_mb`` are temporary files, which
    the system removes with the process.
    """

    def __init__(self, fields: Mapping[str, tuple[tuple[int, ...], torch.dtype]], memory_mb: int) -> None:
        self._fields = {
            name: (shape, torch.empty(0, dtype=dtype).numpy().dtype) for name, (shape, dtype) in fields.items()
        }
        record = sum(math.prod(shape) * dtype.itemsize for shape, dtype in self._fields.values())
        self._a_page = max(1, _PAGE_MB * 2**20 // max(1, record))
        self._in_memory = max(1, memory_mb * 2**20 // max(1, self._a_page * record))
        self._pages: list[dict[str, np.ndarray]] = []
        self._free: list[int] = []

    def put(self, values: Mapping[str, Tensor]) -> list[int]:
        """Keeps ``n`` records, tensors ``(n, *shape)``; returns their places."""
        arrays = {name: value.numpy() for name, value in values.items()}
        count = len(next(iter(arrays.values())))
        while len(self._free) < count:
            self._add_page()
        places = [self._free.pop() for _ in range(count)]
        for page, rows, positions in self._by_page(places):
            for name, array in arrays.items():
                page[name][rows] = array[positions]
        return places

    def take(self, places: Sequence[int]) -> dict[str, Tensor]:
        """The records at these places, tensors ``(n, *shape)``; the places are free again."""
        taken = {name: np.empty((len(places), *shape), dtype) for name, (shape, dtype) in self._fields.items()}
        for page, rows, positions in self._by_page(places):
            for name, array in taken.items():
                array[positions] = page[name][rows]
        self._free.extend(places)
        return {name: torch.from_numpy(array) for name, array in taken.items()}

    def _by_page(self, places: Sequence[int]) -> Iterator[tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]]:
        """The pages that hold these places, the rows in each, and the positions of those places in the sequence."""
        pages, rows = np.divmod(np.asarray(places, dtype=np.int64), self._a_page)
        for page in np.unique(pages):
            positions = np.flatnonzero(pages == page)
            yield self._pages[page], rows[positions], positions

    def _add_page(self) -> None:
        first = len(self._pages) * self._a_page
        make = np.empty if len(self._pages) < self._in_memory else _on_disk
        self._pages.append({name: make((self._a_page, *shape), dtype) for name, (shape, dtype) in self._fields.items()})
        self._free.extend(reversed(range(first, first + self._a_page)))


def _on_disk(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    with tempfile.TemporaryFile() as file:  # stays as long as it is mapped
        return np.memmap(file, dtype=dtype, mode="w+", shape=shape)
