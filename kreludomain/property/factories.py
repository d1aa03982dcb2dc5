"""Claims that are often asked for: about the class, about the value of an output.

Ties lean to the sound side: an output that only equals another is not larger than it.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.property.claim import Claim, claim


def robustness(label: int, classes: int, threshold: float = 0.0) -> Claim:
    """Output ``label`` is larger than every other of ``classes`` outputs; rows in the order of the other classes.

    One output alone tells two classes apart: it is above ``threshold`` for label 1 and below it for label 0 (or -1). It
    is 0 for a logit, 1/2 for a probability. Raises :class:`InputError` for a label that is no class.
    """
    if classes == 1:
        return one_output(label, threshold)
    return targeted(label, range(classes), classes)


def one_output(label: int, threshold: float = 0.0) -> Claim:
    """The only output is above ``threshold`` (label 1) or below it (label 0 or -1)."""
    if label not in (-1, 0, 1):
        raise InputError(
            f"label {label}: a network of one output tells two classes apart, 0 and 1 (or -1 and 1); where the output "
            "is a number to predict, ask 'within: DELTA' of its target"
        )
    sign = 1.0 if label == 1 else -1.0
    return claim(torch.tensor([[sign]], dtype=torch.float64), torch.tensor([-sign * threshold], dtype=torch.float64))


def targeted(label: int, targets: Iterable[int], classes: int) -> Claim:
    """Output ``label`` is larger than those of ``targets``; rows in their order, the label itself left out.

    Raises :class:`InputError` for a label or target that is not one of ``classes``, or where no target is left.
    """
    targets = list(dict.fromkeys(targets))
    require_classes([label], classes, "label")
    require_classes(targets, classes, "target")
    others = [target for target in targets if target != label]
    if not others:
        raise InputError(f"label {label}: there is no other class that it could be taken for")
    rows = -torch.eye(classes, dtype=torch.float64)[others]
    rows[:, label] = 1.0
    return claim(rows)


def top_k(label: int, k: int, classes: int) -> Claim:
    """Output ``label`` is among the ``k`` largest of ``classes``: larger than at least ``classes - k`` others.

    Rows as those of :func:`robustness`. Raises :class:`InputError` for ``k`` that is not from 1 to ``classes - 1``.
    """
    if classes == 1:
        raise InputError("top_k: the network has one output; ask for the side that it is on, 'robust'")
    if not 1 <= k < classes:
        raise InputError(f"top_k: {k} is not a number from 1 to {classes - 1}, one less than there are outputs")
    require_classes([label], classes, "label")
    rows = robustness(label, classes).C
    clause = torch.zeros(len(rows), dtype=torch.int64)
    return claim(rows, clause=clause, needed=torch.tensor([classes - k], dtype=torch.int64))


def within(target: float | Sequence[float] | Tensor, delta: float | Sequence[float] | Tensor) -> Claim:
    """Every output is at most ``delta`` away from its target: ``|f(x) - target| <= delta``.

    ``target`` has a number for each output, ``delta`` one for each or one for all. For each output there are two rows:
    ``f - (target - delta)`` and ``(target + delta) - f``. Raises :class:`InputError` for numbers that do not fit.
    """
    middle = torch.as_tensor(target, dtype=torch.float64).flatten()
    away = torch.as_tensor(delta, dtype=torch.float64).flatten()
    if len(away) not in (1, len(middle)):
        raise InputError(f"within: {len(away)} numbers for {len(middle)} outputs; give one for each, or one for all")
    if not (torch.isfinite(middle).all() and torch.isfinite(away).all() and bool((away >= 0).all())):
        raise InputError(f"within: {away.tolist()} around {middle.tolist()}: finite numbers, from 0 up, are expected")
    away = away.expand(len(middle))
    signs = torch.eye(len(middle), dtype=torch.float64)
    C = torch.stack([signs, -signs], dim=1).flatten(0, 1)
    pairs = zip(middle.tolist(), away.tolist(), strict=True)
    d = [_sum_down(delta, sign * target) for target, delta in pairs for sign in (-1.0, 1.0)]
    return claim(C, torch.tensor(d, dtype=torch.float64), non_strict=torch.ones(len(C), dtype=torch.bool))


def between(
    above: float | None = None, below: float | None = None, output: int | None = None, outputs: int = 1
) -> Claim:
    """One of ``outputs`` (its position ``output``; the only one if not given) is above a number, below one, or both.

    Raises :class:`InputError` where neither is given, nothing lies between them, or there is no such output.
    """
    position = which_output(output, outputs)
    if above is None and below is None:
        raise InputError("give above, below, or both")
    if above is not None and below is not None and above >= below:
        raise InputError(f"no number is above {above:g} and below {below:g}")
    sides = [(1.0, -above)] if above is not None else []
    sides += [(-1.0, below)] if below is not None else []
    C = torch.zeros(len(sides), outputs, dtype=torch.float64)
    C[:, position] = torch.tensor([sign for sign, _ in sides], dtype=torch.float64)
    return claim(C, torch.tensor([number for _, number in sides], dtype=torch.float64))


def which_output(output: int | None, outputs: int) -> int:
    """The position of an output; of the only one it need not be given. Raises :class:`InputError`."""
    if output is None and outputs != 1:
        raise InputError(f"output: missing; the network has {outputs} outputs, 0 to {outputs - 1}")
    if output is not None and not 0 <= output < outputs:
        raise InputError(f"output: {output} is not one of the {outputs} outputs, 0 to {outputs - 1}")
    return output or 0


def require_classes(numbers: Iterable[int], classes: int, what: str) -> None:
    """Raises :class:`InputError` for a number that is not one of the classes."""
    for number in numbers:
        if not 0 <= number < classes:
            raise InputError(f"{what} {number} is not one of the {classes} classes 0..{classes - 1}")


def _sum_down(a: float, b: float) -> float:
    """``a + b`` rounded down, so that the claim is no weaker than what was asked."""
    total = a + b
    return math.nextafter(total, -math.inf) if math.fsum((a, b, -total)) < 0 else total
