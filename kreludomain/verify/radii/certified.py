"""The certified radius: the largest epsilon for which a claim is proved, and the smallest with a counterexample.

The regions are a family that grows with a number, epsilon: the balls around an input, for one. The claim holds in a
region if it holds in a larger one, and fails if it fails in a smaller one. So one proof answers every smaller epsilon,
one counterexample every larger one, and the two numbers of a :class:`Radius` are sound at any moment of the search.
"""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kreludomain.attack import Attack
from kreludomain.attack.nearest import RegionFamily
from kreludomain.deadline import Deadline
from kreludomain.domain import Interval, Method
from kreludomain.errors import InputError
from kreludomain.network import Network, Runtime
from kreludomain.property import Claim, Monotonicity, Normalisation, Region, Robust, ball
from kreludomain.property.around import Numbers, number, numbers
from kreludomain.property.questions import Question
from kreludomain.verify.certificate import Verdict
from kreludomain.verify.certify import chosen_attack
from kreludomain.verify.methods import make_method
from kreludomain.verify.radii.bisection import Trial
from kreludomain.verify.radii.problem import RadiusProblem
from kreludomain.verify.radii.search import RadiusSearch


@dataclass(frozen=True, eq=False)
class Radius:
    """The claim is proved for every epsilon up to ``certified``, and fails for every epsilon from ``attacked`` up.

    ``certified``: the method proved the claim at exactly this epsilon; 0 if it did at none. ``attacked``: the smallest
    epsilon whose region has the ``counterexample`` ``(*input_shape)``, which breaks the claim in onnxruntime; infinite,
    and ``None``, if none was found. What lies between is not known. ``trials`` are the calls of the method in their
    order, ``attacks`` counts the searches for counterexamples, ``reason`` says why the search ended.
    """

    certified: float
    attacked: float
    counterexample: Tensor | None
    trials: tuple[Trial, ...]
    attacks: int
    seconds: float
    reason: str
    notes: tuple[str, ...] = ()

    def verdict(self, epsilon: float) -> Verdict:
        """The verdict on the claim over the region of ``epsilon``, as far as the bracket tells it."""
        if epsilon >= self.attacked:
            return Verdict.FALSIFIED
        return Verdict.VERIFIED if epsilon <= self.certified else Verdict.UNKNOWN

    def __repr__(self) -> str:
        calls = f"{len(self.trials)} calls, {self.attacks} attacks, {self.seconds:.3g} s"
        return f"Radius(certified={self.certified:.6g}, attacked={self.attacked:.6g}; {self.reason}; {calls})"


def radius(
    network: Network,
    around: Numbers | RegionFamily,
    claim: Claim | Question | int,
    method: str | Method | None = "krelu",
    *,
    norm: str | float = "inf",
    clip: tuple[Numbers, Numbers] | None = None,
    scale: Numbers = 1.0,
    fixed: Sequence[int] | Tensor | np.ndarray | None = None,
    mask: Tensor | np.ndarray | Sequence[Any] | None = None,
    normalise: Normalisation | None = None,
    largest: float | str | None = None,
    tolerance: float = 0.01,
    epsilons: Sequence[float | str] = (),
    bisect: bool = True,
    attack: bool | Attack = True,
    attacked: float | None = None,
    timeout_s: float | None = None,
    strict: bool = False,
    runtime: Runtime | None = None,
    **options: object,
) -> Radius:
    """The certified radius of a claim around an input, and beside it the distance of the nearest counterexample found.

    ``around`` is an input, ``(*input_shape)`` or with a batch dimension of 1, around which the regions are
    ``ball(around, epsilon * scale, norm, clip, ...)``: ``scale``, a number or one an entry, says what an epsilon of 1
    is, and the rest is as in :func:`ball`. Or it is a function that returns the region of any epsilon from 0 up, each
    within those of larger ones. ``claim`` is a claim, a question that needs no target, or the label that is to stay.
    ``method`` and ``options`` are as in :func:`certify`; without a method, only counterexamples are looked for.

    The claim is decided at all of ``epsilons``. Then, unless ``bisect`` is false, the bracket is narrowed until
    ``certified`` is within the relative ``tolerance`` of an epsilon that has a counterexample or that the method does
    not prove, or is ``largest``. After ``timeout_s`` seconds the bracket is what is known by then. ``attack``: whether
    counterexamples are looked for, or the attack that does; ``attacked``: an epsilon that is known to have one, so that
    none is looked for apart from those that a complete method comes across. ``strict`` as in :func:`certify`.

    Raises :class:`InputError` for what does not fit the network, numbers out of range, and regions that do not grow.
    """
    start, deadline = time.monotonic(), Deadline.after(timeout_s)
    ends = math.inf if largest is None else _positive("largest", largest)
    ordered = sorted({_positive("epsilons", epsilon) for epsilon in epsilons})
    if not 0 < tolerance < 1:
        raise InputError(f"tolerance: {tolerance!r} is not a number between 0 and 1")
    network, made = network.to(dtype=torch.float64), None if method is None else make_method(method, **options)
    if not callable(around):
        entries = {"norm": norm, "clip": clip, "fixed": fixed, "mask": mask, "normalise": normalise}
        around = partial(_ball, numbers(around), numbers(scale), entries)
    asked, chosen = _claim(claim, network), chosen_attack(attack, made or Interval())
    problem = RadiusProblem(
        network, around, asked, made or Interval(), chosen, runtime or Runtime(network), deadline, strict
    )
    search = RadiusSearch(problem, ends, tolerance, math.inf if attacked is None else attacked)
    if search.look():
        if attacked is None:
            search.refute_at(ordered)
            if bisect:
                search.refute()
        if made is not None:
            search.prove_at(ordered)
            if bisect:
                search.bisect()
    reason = _reason(search, ordered if made else (), bisect and made is not None)
    return Radius(
        search.certified,
        search.attacked,
        None if search.nearest is None else search.nearest.point[0],
        tuple(search.proofs.trials),
        search.attacks,
        time.monotonic() - start,
        f"time limit of {timeout_s:g} s; {reason}" if search.was_late and timeout_s is not None else reason,
        tuple(dict.fromkeys(search.proofs.notes)),
    )


def _reason(search: RadiusSearch, epsilons: Sequence[float], bisect: bool) -> str:
    """Why a search ended, apart from its time limit."""
    if search.fails:
        return "the claim fails in the smallest region already"
    if bisect and search.certified >= search.largest:
        return f"verified at the largest epsilon, {search.largest:.6g}"
    if bisect:
        return f"{'' if search.is_narrow else 'not '}narrowed to the tolerance of {search.tolerance:g}"
    left = sum(search.certified < epsilon < search.attacked for epsilon in epsilons)
    if epsilons:
        return f"{left} of {len(epsilons)} epsilons not decided" if left else f"{len(epsilons)} epsilons decided"
    return "no counterexample found" if search.nearest is None else "no nearer counterexample found"


def _ball(x: Tensor, scale: Tensor, entries: Mapping[str, Any], epsilon: float) -> Region:
    return ball(x, epsilon * scale, **entries)


def _claim(given: Claim | Question | int, network: Network) -> Claim:
    if isinstance(given, int):
        given = Robust().claim(network, given)
    claim = given.claim(network) if isinstance(given, Question) else given
    if isinstance(claim, Monotonicity):
        raise InputError(
            "claim: a radius is that of a claim about outputs; certify decides whether slopes are negative"
        )
    claim.objective(network)  # raises for a claim that does not fit
    return claim


def _positive(name: str, given: float | str) -> float:
    try:
        value = number(given)
    except InputError as error:
        raise InputError(f"{name}: {error}") from None
    if not 0 < value < math.inf:
        raise InputError(f"{name}: {given!r} is not a number above 0")
    return value
