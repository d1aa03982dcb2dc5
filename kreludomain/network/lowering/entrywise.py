"""Functions of single entries, and of entries at the same place of several values."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import torch
from torch import Tensor

from kreludomain.activations import Relu
from kreludomain.errors import InputError
from kreludomain.network.graph import Node
from kreludomain.network.operators import Activation, Operator, PairMaximum, Scale, Shape, Sum

#: ``(name, *sources) -> nodes`` that compute a function of the nodes ``sources``; the last one is called ``name``.
Decomposition = Callable[..., tuple[Node, ...]]


def chain(*steps: Operator | Decomposition) -> Decomposition:
    """One operator or decomposition after the other, each of one input."""

    def nodes(name: str, source: str) -> Iterator[Node]:
        for position, step in enumerate(steps, 1):
            inner = f"{name}/{position}"
            *before, last = (Node(inner, step, (source,)),) if isinstance(step, Operator) else step(inner, source)
            yield from before
            source = name if position == len(steps) else inner
            yield Node(source, last.operator, last.inputs)

    return lambda name, source: tuple(nodes(name, source))


def leaky_relu(shape: Shape, slope: float | Tensor) -> Decomposition:
    """``x`` where it is positive, ``slope * x`` elsewhere: ``slope * x + (1 - slope) * ReLU(x)``.

    ``slope`` broadcasts to ``shape``.
    """
    factor = torch.as_tensor(slope, dtype=torch.float64)

    def nodes(name: str, source: str) -> tuple[Node, ...]:
        return (
            Node(f"{name}/relu", Activation(Relu(), shape), (source,)),
            Node(f"{name}/above", Scale(1 - factor, None, shape), (f"{name}/relu",)),
            Node(f"{name}/below", Scale(factor, None, shape), (source,)),
            Node(name, Sum((1, 1), shape), (f"{name}/above", f"{name}/below")),
        )

    return nodes


def clip(shape: Shape, lower: float | Tensor, upper: float | Tensor) -> Decomposition:
    """``min(max(x, lower), upper)``; both sides broadcast to ``shape``, and an infinite one does not clip.

    A chain, ``upper - ReLU((upper - lower) - ReLU(x - lower))``, so that even intervals lose nothing on it.
    """
    low, high = (torch.as_tensor(side, dtype=torch.float64) for side in (lower, upper))
    wrong = ~(low <= high) | (low == torch.inf) | (high == -torch.inf)  # NaN is not <= anything
    if bool(wrong.any()):
        first, last = (float(side.expand(wrong.shape)[wrong][0]) for side in (low, high))
        raise InputError(f"clipping to [{first:g}, {last:g}]; a lower side below the upper one is expected")
    if not bool(low.isfinite().all() and high.isfinite().all()):
        return chain(at_least(shape, low), at_most(shape, high))
    relu = Activation(Relu(), shape)
    return chain(_shifted(-low, shape), relu, _mirrored(high - low, shape), relu, _mirrored(high, shape))


def at_least(shape: Shape, bound: float | Tensor) -> Decomposition:
    """``max(x, bound)``, as ``bound + ReLU(x - bound)``; ``bound`` broadcasts to ``shape``, -inf is no bound."""
    given = torch.as_tensor(bound, dtype=torch.float64)
    if not bool(given.any()):
        return chain(Activation(Relu(), shape))
    return _where_finite(given, shape, lambda b: (_shifted(-b, shape), Activation(Relu(), shape), _shifted(b, shape)))


def at_most(shape: Shape, bound: float | Tensor) -> Decomposition:
    """``min(x, bound)``, as ``bound - ReLU(bound - x)``; ``bound`` broadcasts to ``shape``, inf is no bound."""
    given = torch.as_tensor(bound, dtype=torch.float64)
    return _where_finite(given, shape, lambda b: (_mirrored(b, shape), Activation(Relu(), shape), _mirrored(b, shape)))


def _shifted(by: Tensor, shape: Shape) -> Scale:
    return Scale(torch.ones((), dtype=torch.float64), by, shape)


def _mirrored(at: Tensor, shape: Shape) -> Scale:
    """``at - x``."""
    return Scale(-torch.ones((), dtype=torch.float64), at, shape)


def _where_finite(bound: Tensor, shape: Shape, steps: Callable[[Tensor], tuple[Operator, ...]]) -> Decomposition:
    """The steps for a bound where it is finite, the value itself elsewhere."""
    finite = bound.isfinite()
    if not bool(finite.any()):
        return chain(_shifted(torch.zeros((), dtype=torch.float64), shape))
    bounded, share = chain(*steps(torch.where(finite, bound, 0.0))), finite.double()
    if bool(finite.all()):
        return bounded
    return lambda name, source: (
        *bounded(f"{name}/all", source),
        Node(f"{name}/bounded", Scale(share, None, shape), (f"{name}/all",)),
        Node(f"{name}/free", Scale(1 - share, None, shape), (source,)),
        Node(name, Sum((1, 1), shape), (f"{name}/bounded", f"{name}/free")),
    )


def absolute(shape: Shape) -> Decomposition:
    """``|x|``, the larger of ``x`` and ``-x``."""
    return lambda name, source: (
        Node(f"{name}/minus", Scale(-torch.ones((), dtype=torch.float64), None, shape), (source,)),
        *maximum(shape)(name, source, f"{name}/minus"),
    )


def maximum(shape: Shape) -> Decomposition:
    """The largest of two or more nodes' values, entry by entry, as a balanced tree of maxima of two.

    The larger of ``a`` and ``b`` is ``b + ReLU(a - b)``.
    """

    def nodes(name: str, *sources: str) -> Iterator[Node]:
        values, made = list(sources), 0
        while len(values) > 1:
            pairs = list(zip(values[0::2], values[1::2], strict=False))
            rest = values[2 * len(pairs) :]
            last = len(pairs) == 1 and not rest
            values = []
            for a, b in pairs:
                values.append(name if last else f"{name}/max{made}")
                yield from _larger(values[-1], a, b, shape)
                made += 1
            values += rest

    return lambda name, *sources: tuple(nodes(name, *sources))


def _larger(name: str, a: str, b: str, shape: Shape) -> tuple[Node, ...]:
    return (
        Node(f"{name}/difference", Sum((1, -1), shape), (a, b)),
        Node(f"{name}/relu", Activation(Relu(), shape), (f"{name}/difference",)),
        Node(name, PairMaximum(shape), (a, b, f"{name}/relu")),
    )


def minimum(shape: Shape) -> Decomposition:
    """The least of two or more nodes' values, entry by entry: ``-max(-a, -b, ...)``."""
    minus = Scale(-torch.ones((), dtype=torch.float64), None, shape)

    def nodes(name: str, *sources: str) -> tuple[Node, ...]:
        mirrored = [Node(f"{name}/minus{i}", minus, (source,)) for i, source in enumerate(sources)]
        largest = maximum(shape)(f"{name}/max", *(node.name for node in mirrored))
        return (*mirrored, *largest, Node(name, minus, (f"{name}/max",)))

    return nodes
