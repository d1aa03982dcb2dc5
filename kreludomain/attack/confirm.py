"""Confirming a counterexample: a float32 point of the region that breaks the claim in onnxruntime."""

from __future__ import annotations

from torch import Tensor

from kreludomain.domain.decision import DecisionQuery
from kreludomain.network import Runtime
from kreludomain.property import Claim, Region


def confirmed(x: Tensor, region: Region, claim: Claim, runtime: Runtime) -> Tensor | None:
    """``x`` rounded to float32 within the region, if onnxruntime breaks the claim there; ``None`` if it does not."""
    point = region.rounded(x)
    if not bool(region.contains(point.to(region.lower)).all()):
        return None
    outputs = runtime(point)
    return point if bool(claim.broken(claim.margins(outputs.double())).all()) else None


def refuted(query: DecisionQuery, x: Tensor) -> Tensor | None:
    """The first of inputs ``(n, *input_shape)`` that breaks the claim, as :func:`confirmed` confirms; or ``None``."""
    claim, x = query.claim, x.to(query.region.lower)
    for position in claim.broken(claim.margins(query.network(x))).nonzero()[:, 0].tolist():
        found = confirmed(x[position : position + 1], query.region, claim, query.runtime)
        if found is not None:
            return found
    return None


def counterexample_text(x: Tensor, runtime: Runtime) -> str:
    """A counterexample ``(1, *input_shape)``, float32, as VNN-COMP's rules want it (2023, section on results).

    The line ``sat``, then in one pair of parentheses a line ``(X_i value)`` an input and ``(Y_j value)`` an output, in
    the order of the flattened tensors. ``runtime`` runs the network as it was read; its outputs are the values of
    ``Y``. The digits give the same number again, read as float32 or as float64.
    """
    values = (("X", x.float()), ("Y", runtime(x).float()))
    pairs = (f"({kind}_{i} {value!r})" for kind, part in values for i, value in enumerate(part.flatten().tolist()))
    return "sat\n(" + "\n".join(pairs) + ")\n"
