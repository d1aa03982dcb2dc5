"""Records of tensors that wait their turn: in memory as long as they fit, then in temporary files."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

#: How much a page of records takes, in MiB.
_PAGE_MB = 8


class Store:
    """Records of one kind, each in a place that it leaves when it is taken.

    ``fields`` has the shape and dtype of each tensor of a record. Pages beyond ``memory_mb`` are temporary files, which
    the system removes with the process.
    """

    def __init__(self, fields: Mapping[str, tuple[tuple[int, ...], torch.dtype]], memory_mb: int) -> None:
        self._dtypes = {name: torch.empty(0, dtype=dtype).numpy().dtype for name, (_, dtype) in fields.items()}
        self._record = np.dtype([(name, self._dtypes[name], shape) for name, (shape, _) in fields.items()])
        self._a_page = max(1, _PAGE_MB * 2**20 // self._record.itemsize)
        self._in_memory = max(1, memory_mb * 2**20 // (self._a_page * self._record.itemsize))
        self._pages: list[np.ndarray] = []
        self._free: list[int] = []

    def put(self, values: Mapping[str, Tensor]) -> list[int]:
        """Keeps ``n`` records, tensors ``(n, *shape)``; returns their places."""
        arrays = {name: value.numpy() for name, value in values.items()}
        count = len(next(iter(arrays.values())))
        while len(self._free) < count:
            self._add_page()
        places = [self._free.pop() for _ in range(count)]
        for position, place in enumerate(places):
            record = self._pages[place // self._a_page][place % self._a_page]
            for name, array in arrays.items():
                record[name] = array[position]
        return places

    def take(self, places: Sequence[int]) -> dict[str, Tensor]:
        """The records at these places, tensors ``(n, *shape)``; the places are free again."""
        records = np.stack([self._pages[place // self._a_page][place % self._a_page] for place in places])
        self._free.extend(places)
        return {name: torch.from_numpy(np.ascontiguousarray(records[name])) for name in self._dtypes}

    def _add_page(self) -> None:
        first = len(self._pages) * self._a_page
        if len(self._pages) < self._in_memory:
            page: np.ndarray = np.empty(self._a_page, self._record)
        else:
            with tempfile.TemporaryFile() as file:  # stays as long as it is mapped
                page = np.memmap(file, dtype=self._record, mode="w+", shape=(self._a_page,))
        self._pages.append(page)
        self._free.extend(reversed(range(first, first + self._a_page)))
