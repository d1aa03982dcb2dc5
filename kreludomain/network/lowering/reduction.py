"""Sums and maxima over an axis."""

from __future__ import annotations

from collections.abc import Iterator

import torch

from kreludomain.network.graph import Node
from kreludomain.network.lowering.entrywise import Decomposition, maximum
from kreludomain.network.operators import Concat, Gather, Linear, Reshape, Shape


def total(rows: int, size: int, factor: float = 1.0) -> Linear:
    """``factor`` times the sum of each row of a value ``(rows, size)``, as ``(rows, 1)``."""
    return Linear(torch.full((1, size), factor, dtype=torch.float64), None, (rows, size))


def largest(rows: int, size: int, shape: Shape) -> Decomposition:
    """The largest entry of each row of a value ``(rows, size)``, in any ``shape`` of ``rows`` entries.

    Halves are compared with each other until one column is left: ``size - 1`` maxima of two a row, in as many nodes as
    the logarithm of ``size`` asks for.
    """

    def nodes(name: str, source: str) -> Iterator[Node]:
        left, value = size, source
        while left > 1:
            half, level = left // 2, f"{name}/{left}"
            every = torch.arange(rows * left).view(rows, left)
            parts = {"first": every[:, :half], "second": every[:, half : 2 * half], "rest": every[:, 2 * half :]}
            for part, index in parts.items():
                if index.numel():
                    yield Node(f"{level}/{part}", Gather((rows, left), index.contiguous()), (value,))
            yield from maximum((rows, half))(f"{level}/larger", f"{level}/first", f"{level}/second")
            value = f"{level}/larger"
            if left % 2:
                joined = Concat(((rows, half), (rows, 1)), 1)
                yield Node(f"{level}/joined", joined, (value, f"{level}/rest"))
                value = f"{level}/joined"
            left -= half
        yield Node(name, Reshape((rows, 1), shape), (value,))

    return lambda name, source: tuple(nodes(name, source))
