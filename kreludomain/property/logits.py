"""Claims about a network's outputs, asked of its logits: the same questions, before a last Softmax or sigmoid.

A claim is about what the file computes. A Softmax is left out of a network (its head) and can be asked which of two of
its outputs is larger; a sigmoid can be asked that exactly too, and whether it is above 1/2. Other claims about a
Softmax are refused, other claims about a sigmoid are about the sigmoid itself, which is an activation like others.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network import Head, Network
from kreludomain.network.sigmoids import SigmoidEnd
from kreludomain.property.claim import Claim

#: Numbers with no more binary digits than this, before and after the point, are added without rounding.
_DIGITS = 20


def at_logits(network: Network, claims: Sequence[Claim]) -> tuple[Network, tuple[Claim, ...]]:
    """A network and claims about it that hold exactly where the given ones do, before a last Softmax or sigmoid.

    Nothing changes where the network ends in neither, or where a claim asks more of a sigmoid. Raises
    :class:`InputError` for a claim that asks more of a Softmax.
    """
    for_logits = tuple(before_head(network, claim) for claim in claims)
    network = without_head(network)
    end = network.sigmoid_end
    if end is None:
        return network, for_logits
    moved = [_before_sigmoid(end, claim) for claim in for_logits]
    found = tuple(claim for claim in moved if claim is not None)
    return (end.logits, found) if len(found) == len(moved) else (network, for_logits)


def without_head(network: Network) -> Network:
    """The network, to be asked about its logits."""
    return network if network.head is None else dataclasses.replace(network, head=None)


def before_head(network: Network, claim: Claim) -> Claim:
    """The claim about the logits of a network that has a head; the claim itself where it has none."""
    head = network.head
    if head is None or claim.C.shape[1] != len(head.groups):
        return claim
    C, d = _CONDITIONS[head.kind](claim, torch.tensor(head.groups, dtype=torch.int64, device=claim.C.device), head)
    return dataclasses.replace(claim, C=C, d=d)


def _compared(claim: Claim, groups: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Outputs that are normalised: all are positive, and those of a group sum to 1.

    A row is one of ``a (Y_i - Y_j)`` for outputs of a group, perhaps after ``d`` is written as ``d`` times their sum.
    """
    C, d = claim.C, claim.d
    constant = (C == 0).all(1)
    if int(groups.max()) == 0 and bool(_short(C).all() and _short(d).all()):
        C, d = torch.where(constant[:, None], C, C + d[:, None]), torch.where(constant, d, 0.0)
    two = (C != 0).sum(1) == 2
    possible = constant | (two & (C.sum(1) == 0) & (d == 0) & _within_groups(C, groups))
    _require(possible, claim, head, "only which of two outputs is larger can be asked")
    return C, d


def _differences(claim: Claim, groups: Tensor, head: Head) -> tuple[Tensor, Tensor]:
    """Outputs that are the logits minus one number for each group: a row whose sum is 0 in each group is the same."""
    C = claim.C
    two = ((C != 0).sum(1) == 2) & (C.sum(1) == 0)
    possible = (_within_groups(C, groups)) & ((C == 0).all(1) | two | _short(C).all(1))
    _require(possible, claim, head, "only differences of outputs can be asked about")
    return C, claim.d


_CONDITIONS: dict[str, Callable[[Claim, Tensor, Head], tuple[Tensor, Tensor]]] = {
    "Softmax": _compared,
    "normalised": _compared,
    "ArgMax": _compared,
    "LogSoftmax": _differences,
}


def _within_groups(C: Tensor, groups: Tensor) -> Tensor:
    """Which rows have coefficients that sum to 0 in every group."""
    sums = torch.zeros(len(C), int(groups.max()) + 1, dtype=C.dtype, device=C.device).index_add(1, groups, C)
    found: Tensor = (sums == 0).all(1)
    return found


def _short(values: Tensor) -> Tensor:
    """Which numbers have few binary digits, so that sums of them are exact."""
    scaled = values * 2**_DIGITS
    found: Tensor = (scaled == scaled.round()) & (values.abs() <= 2**_DIGITS)
    return found


def _require(possible: Tensor, claim: Claim, head: Head, what: str) -> None:
    if bool(possible.all()):
        return
    row = int((~possible).nonzero()[0])
    raise InputError(
        f"claim: row {row} ({_text(claim, row)}) is about the outputs of the last {head.kind} (node '{head.node}'), "
        f"which the network is read without: {what}"
    )


def _text(claim: Claim, row: int, most: int = 4) -> str:
    terms = [f"{float(value):g} Y_{i}" for i, value in enumerate(claim.C[row].tolist()) if value]
    shown = [*terms[:most], *(["..."] if len(terms) > most else [])]
    return f"{' + '.join(shown or ['0'])} + {float(claim.d[row]):g} > 0".replace("+ -", "- ")


def _before_sigmoid(end: SigmoidEnd, claim: Claim) -> Claim | None:
    """The claim about ``A z + b`` for one about ``A sigmoid(z) + b``; ``None`` if there is none.

    Its rows are ``w . sigmoid(z) + e``: a multiple of a difference of two sigmoids, or of one's difference from 1/2.
    """
    C, d, A, b = claim.C, claim.d, end.A.to(claim.C), end.b.to(claim.C)
    if C.shape[1] != len(A) or not bool(_short(C).all() and _short(d).all()):
        return None
    w, e = C @ A, C @ b + d
    count, total = (w != 0).sum(1), w.sum(1)
    constant = count == 0
    possible = constant | ((count == 1) & (e == -total / 2)) | ((count == 2) & (total == 0) & (e == 0))
    return dataclasses.replace(claim, d=torch.where(constant, d, d - e)) if bool(possible.all()) else None
