"""Confirming a counterexample: an input in the region, of the network's type, that breaks the claim in onnxruntime."""

from __future__ import annotations

import torch
from torch import Tensor

from kreludomain.domain import Query
from kreludomain.domain.decision import DecisionQuery
from kreludomain.network import Runtime
from kreludomain.property import Region

#: As many entries of an input are named in a text, at most.
_MOST_NAMED = 8


def confirmed(x: Tensor, query: Query, runtime: Runtime) -> Tensor | None:
    """``x`` ``(1, *input_shape)`` rounded to the type of ``runtime`` within the query's region, if it is a
    counterexample: ``runtime`` breaks the claim there. ``None`` if it is not.

    Where the interval of an entry holds no number of that type, the entry is the nearest one, at most one rounding
    outside. The claim must then be broken, by the network in float64, at the point of the region that it stands for
    (:meth:`Region.represented`) too, so that no such counterexample contradicts a proof. A ``strict`` query has none.
    """
    region, claim = query.region, query.claim
    if claim is None or not can_be_confirmed(query, runtime):
        return None
    point = region.rounded(x, runtime.dtype)
    represented = region.represented(point)
    if not bool(torch.isfinite(point).all() and region.contains(represented).all()):
        return None
    if not bool(claim.broken(claim.margins(runtime(point).double())).all()):
        return None
    exact = torch.equal(represented, point.to(represented))
    return point if exact or bool(claim.broken(claim.margins(query.network(represented))).all()) else None


def can_be_confirmed(query: Query, runtime: Runtime) -> bool:
    """Whether a region can have a counterexample.

    Not if it holds no input of the network's type and must (strict), or is beyond the largest number of that type.
    """
    return not bool(_impossible(query, runtime).any())


def _impossible(query: Query, runtime: Runtime) -> Tensor:
    """Which entries of the region, ``(1, *input_shape)``, have no value that a counterexample can have."""
    region, largest = query.region, torch.finfo(runtime.dtype).max
    beyond = (region.lower > largest) | (region.upper < -largest)
    return region.unrepresentable(runtime.dtype) if query.strict else beyond


def refuted(query: DecisionQuery, x: Tensor) -> Tensor | None:
    """The first of inputs ``(n, *input_shape)`` that breaks the claim, as :func:`confirmed` confirms; or ``None``."""
    claim, x = query.claim, x.to(query.region.lower)
    for position in claim.broken(claim.margins(query.network(x))).nonzero()[:, 0].tolist():
        found = confirmed(x[position : position + 1], query, query.runtime)
        if found is not None:
            return found
    return None


def confirmation(x: Tensor, region: Region) -> str:
    """That a counterexample ``(1, *input_shape)`` is confirmed, and which of its entries lie outside the region, and
    why."""
    outside = (region.represented(x) != x.to(region.lower)).flatten()
    text = "counterexample confirmed by onnxruntime"
    if not bool(outside.any()):
        return text
    kind = str(x.dtype).removeprefix("torch.")
    return f"{text}; {_entries(outside)}: no {kind} number is inside, the nearest one is taken"


def nothing_to_find(query: Query, runtime: Runtime) -> str:
    """Why no search is begun where :func:`can_be_confirmed` is false: the entries that hold no number of the type."""
    kind, where = str(runtime.dtype).removeprefix("torch."), _entries(_impossible(query, runtime).flatten())
    strict = "strict: " if query.strict else ""
    return f"{strict}no counterexample is looked for, since no {kind} number is inside the region at {where}"


def _entries(chosen: Tensor) -> str:
    positions = chosen.nonzero()[:, 0].tolist()
    named = ", ".join(map(str, positions[:_MOST_NAMED]))
    more = f" and {len(positions) - _MOST_NAMED} more" if len(positions) > _MOST_NAMED else ""
    return f"input{'s' if len(positions) > 1 else ''} {named}{more}"


def counterexample_text(x: Tensor, runtime: Runtime) -> str:
    """A counterexample ``(1, *input_shape)`` in the network's type, as VNN-COMP's rules want it (2023, section on
    results).

    The line ``sat``, then in one pair of parentheses a line ``(X_i value)`` an input and ``(Y_j value)`` an output, in
    the order of the flattened tensors. ``runtime`` runs the network as it was read; its outputs are the values of
    ``Y``. The digits give the same number again, read as float32 or as float64.
    """
    values = (("X", x), ("Y", runtime(x)))
    pairs = (f"({kind}_{i} {value!r})" for kind, part in values for i, value in enumerate(part.flatten().tolist()))
    return "sat\n(" + "\n".join(pairs) + ")\n"
