"""Comparisons, and what chooses by them: ``where(x > 0, x, 0.1 * x)``, ``x * (x > 0)``, ``x[x < 0] = 0``.

They are written as ONNX has them, and its reader says which choices do not jump.
"""

from __future__ import annotations

from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.operators.base import Graph, Operand, Writer

_COMPARED = {"gt": "Greater", "ge": "GreaterOrEqual", "lt": "Less", "le": "LessOrEqual"}
_CONNECTED = {
    **{"logical_not": "Not", "bitwise_not": "Not", "logical_and": "And", "bitwise_and": "And"},
    **{"logical_or": "Or", "bitwise_or": "Or"},
}


def is_choice(graph: Graph, operand: object) -> bool:
    """Whether an operand says, for each entry, how a comparison came out; as a truth value or as 0 and 1."""
    step = graph.made_by.get(operand) if isinstance(operand, Value) else None
    if step is None:
        return False
    connected = step.name in (*_CONNECTED, "_to_copy")
    return step.name in _COMPARED or (connected and is_choice(graph, step.arguments["self"]))


def chosen(graph: Graph, choice: Operand, one: Operand, other: Operand) -> str:
    """``one`` where a comparison holds and ``other`` elsewhere."""
    return graph.add("Where", *map(graph.operand, (choice, one, other)))


def _written(op_type: str) -> Writer:
    return lambda graph, step: graph.add(
        op_type, *(graph.operand(step.arguments[name]) for name in ("self", "other") if name in step.arguments)
    )


COMPARISONS: dict[str, Writer] = {name: _written(op_type) for name, op_type in (_COMPARED | _CONNECTED).items()}
