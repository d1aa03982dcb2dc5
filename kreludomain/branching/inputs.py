"""Branch and bound over the input box, for networks of few inputs (Wang et al., ReluVal, USENIX Security 2018).

A box is closed where DeepPoly proves the claim over it. A box that stays open is first cut to what its rows' linear
bounds leave of it, then halved along the input that the bounds lose most by; halves keep the signs of the neurons that
were decided. Points where the bounds are lowest are tried as counterexamples on the way.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields, replace
from functools import cached_property

import torch
from torch import Tensor

from kreludomain.activations import LOWER_SLOPES
from kreludomain.attack.confirm import confirmed
from kreludomain.branching.open_set import OpenSet, Subproblem
from kreludomain.branching.spill import SpillStore
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.domain.batched_crown import LinearForms, RootRelaxation, batched_crown, neuron_count
from kreludomain.errors import InputError
from kreludomain.network import Runtime
from kreludomain.options import Options
from kreludomain.property import Box, Claim, Objective, Region
from kreludomain.rounding import ROUNDING, UNDERFLOW, gamma

#: Boxes are cut by each row in turn, so many times.
_CUTTING_ROUNDS = 2
#: Steps and size of the ascent to the best weights of a clause's rows.
_MIXING_STEPS, _MIXING_RATE = 8, 2.0
#: Points confirmed in onnxruntime for one batch of boxes, at most.
_MOST_CONFIRMED = 4


@dataclass(frozen=True, eq=False)
class InputSplittingResult:
    """A proof, a counterexample, or the part of the box that is open yet.

    ``counterexample`` ``(1, *input_shape)``, float32, confirmed by onnxruntime. ``left``: the boxes that are open yet,
    ``(B, *input_shape)``; together they hold every counterexample. ``None`` where none is (then the claim is proved) or
    where one was found. ``worst``: a sound lower bound, over what is left, of the least of the open clauses' largest
    rows. ``boxes``: how many were bounded; ``reason``: why it stopped.
    """

    reason: str
    boxes: int
    counterexample: Tensor | None = None
    left: Box | None = None
    worst: float = float("inf")

    @property
    def proved(self) -> bool:
        return self.left is None and self.counterexample is None


@dataclass(frozen=True)
class InputSplitting(Options):
    """Splitting of boxes with few inputs.

    ``few_inputs``: a box of at most so many inputs is split itself, instead of neurons, in the complete method.
    ``batch``: boxes bounded at once. ``most_open``: the search ends with what is left when more boxes are open (each
    takes 16 bytes an input and one a neuron; those beyond ``memory_mb`` wait in a temporary file). ``narrowest``: it
    also ends at an open box whose inputs are all narrower than this share of the whole box. ``lower_slope`` as in
    :class:`DeepPoly`.
    """

    few_inputs: int = 8
    batch: int = 64
    most_open: int = 500_000
    narrowest: float = 1e-9
    lower_slope: str = "area"
    memory_mb: int = 512

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lower_slope not in LOWER_SLOPES:
            raise InputError(f"lower_slope: '{self.lower_slope}' is not one of {', '.join(LOWER_SLOPES)}")
        for name, least in (("few_inputs", 0), ("batch", 1), ("most_open", 1), ("memory_mb", 1)):
            if getattr(self, name) < least:
                raise InputError(f"{name}: {getattr(self, name)} is not a number from {least} up")
        if not 0 < self.narrowest < 1:
            raise InputError(f"narrowest: {self.narrowest} is not between 0 and 1")

    def takes(self, query: Query) -> bool:
        """Whether a query is about a box of few inputs, and a network that can be split so."""
        relus = all(node.is_relu for node in query.network.activations)
        return relus and query.region.is_box and math.prod(query.region.shape) <= self.few_inputs


@dataclass(frozen=True, eq=False)
class _Boxes:
    """Boxes: bounds ``(N, inputs)``, signs ``(N, neurons)``, which clauses are proved ``(N, c)``, and a lower bound
    ``(N,)`` of the worst open clause."""

    lower: Tensor
    upper: Tensor
    signs: Tensor
    proved: Tensor
    worst: Tensor

    def __len__(self) -> int:
        return len(self.lower)

    def __getitem__(self, chosen: Tensor) -> _Boxes:
        return _Boxes(**{name: value[chosen] for name, value in self.tensors().items()})

    def tensors(self) -> dict[str, Tensor]:
        return {field.name: getattr(self, field.name) for field in fields(self)}


@torch.no_grad()
def prove_by_input_splitting(
    query: Query, options: InputSplitting = InputSplitting(), runtime: Runtime | None = None
) -> InputSplittingResult:
    """Whether a claim holds all over a box (a batch of one), by splitting the box.

    A counterexample counts only where onnxruntime confirms it (``runtime``: a session to use again). Raises
    :class:`InputError` for a region that is no box, an activation that is no ReLU, and what does not fit the network.
    """
    network, region = query.network.to(device="cpu"), query.region.to(torch.float64, torch.device("cpu"))
    query = replace(query, network=network, region=region)
    if not region.is_box or region.batch != 1:
        raise InputError("region: splitting inputs takes one box")
    if query.claim is None:
        raise InputError("claim: missing; there is nothing to prove")
    if query.claim.needed is not None:
        raise InputError("claim: splitting inputs takes clauses of which one row is needed: see Claim.disjunctions")
    whole = RootRelaxation.of(network, region)
    search = _InputSearch(query, query.claim, whole, options)
    return search.run(query.deadline, runtime or Runtime(network))


class _InputSearch:
    """The state of a search. Boxes that are open are in a store; the items of subproblems are places there."""

    def __init__(self, query: Query, claim: Claim, whole: RootRelaxation, options: InputSplitting) -> None:
        self.query, self.network, self.region = query, query.network, query.region
        self.claim, self.objective = claim, query.objective
        self.whole, self.options = whole, options
        root = self._root()
        self.store = SpillStore(
            {name: (tuple(value.shape[1:]), value.dtype) for name, value in root.tensors().items()}, options.memory_mb
        )
        self.open = OpenSet(self.store.put(root.tensors()), best_first=False)  # few are open at a time
        self.open.put_back(self.open.roots[0])
        self.bounded = 0

    def run(self, deadline: Deadline, runtime: Runtime) -> InputSplittingResult:
        reason = ""
        while self.open.waiting and not reason:
            if deadline.passed:
                reason = "time limit"
                break
            taken = self.open.take(self.options.batch)
            boxes = _Boxes(**self.store.take([each.item for each in taken]))
            self.bounded += len(boxes)
            boxes, is_open, scores = self.bound(boxes)
            chosen = is_open.nonzero()[:, 0].tolist()
            for position in set(range(len(taken))).difference(chosen):
                self.open.replace(taken[position], [], [math.inf])
            if not chosen:
                continue
            still = boxes[is_open]
            counterexample = self.attack(still, runtime)
            if counterexample is not None:
                return InputSplittingResult("counterexample confirmed by onnxruntime", self.bounded, counterexample)
            halves = self.halves(still, scores[is_open])
            self._replace([taken[position] for position in chosen], still, halves)
            if halves is None:
                reason = "a box is too narrow to be split"
            elif len(self.open) > self.options.most_open:
                reason = f"more than {self.options.most_open} boxes open"
        return self._result(reason)

    def _replace(self, subproblems: Sequence[Subproblem[int]], boxes: _Boxes, halves: _Boxes | None) -> None:
        """Replaces subproblems by the two halves of each of their boxes, or by the boxes as they are cut."""
        count = 1 if halves is None else 2
        order = range(len(boxes)) if halves is None else _widest_margin_first(boxes).tolist()
        parts = boxes if halves is None else halves
        places, worst = self.store.put(parts.tensors()), parts.worst.tolist()
        for position, index in enumerate(order):
            own = range(count * position, count * (position + 1))
            self.open.replace(subproblems[index], [(worst[i], places[i]) for i in own])

    def _result(self, reason: str) -> InputSplittingResult:
        if not len(self.open):
            return InputSplittingResult("every box is closed", self.bounded)
        left = _Boxes(**self.store.take([each.item for each in self.open]))
        boxes = self._box(left)
        return InputSplittingResult(reason, self.bounded, left=boxes, worst=self.open.least)

    def _root(self) -> _Boxes:
        low, high = self.region.lower.flatten(1), self.region.upper.flatten(1)
        signs = torch.zeros(1, neuron_count(self.network), dtype=torch.int8)
        proved = torch.zeros(1, self.claim.clause_count, dtype=torch.bool)
        return _Boxes(low, high, signs, proved, torch.full((1,), -torch.inf, dtype=low.dtype))

    def _box(self, boxes: _Boxes) -> Box:
        return Box(*(side.unflatten(1, self.region.shape) for side in (boxes.lower, boxes.upper)))

    def bound(self, boxes: _Boxes) -> tuple[_Boxes, Tensor, Tensor]:
        """The boxes cut to where the claim may fail, which of them stay open ``(N,)``, and each input's part in the
        loss of bounds, ``(N, inputs)``."""
        region = self._box(boxes)
        relaxation = batched_crown(self.network, region, boxes.signs, self.whole, self.options.lower_slope)
        forms, losses = relaxation.scored_rows(self.objective)
        lower, clause = forms.concretise(region), self.claim.clauses
        proved = boxes.proved | self.claim.proved(lower)
        worst = self.claim.clause_margins(lower).masked_fill(proved, torch.inf)
        if self.claim.clause_count < len(clause):
            mixed = relaxation.rows(self._mixed(forms, region))
            lower = mixed.concretise(region)
            proved = proved | ((lower >= UNDERFLOW) & lower.isfinite())
            worst = torch.fmax(worst, lower).masked_fill(proved, torch.inf)
            forms, clause = forms | mixed, torch.cat([clause, torch.arange(self.claim.clause_count)])
        low, high, proved = cut(forms, clause, boxes.lower, boxes.upper, proved)
        is_open = ~proved.all(1)
        charged = torch.where(proved[:, self.claim.clauses, None], 0.0, losses).sum(1)
        # A child's bound may come out below its parent's, which holds as well.
        worst = torch.fmax(worst.masked_fill(proved, torch.inf).amin(1), boxes.worst)
        return _Boxes(low, high, relaxation.signs, proved, worst), is_open, charged

    @cached_property
    def _mixing_loss(self) -> Tensor:
        """A bound of the rounding error of an average of rows."""
        values = (
            self.objective.coefficients[0].flatten(1).abs()
            @ self.whole.rounding.magnitude(self.objective.node).flatten()
        )
        return gamma(self.objective.count) * (values + self.objective.constant[0].abs()).amax()

    def _mixed(self, forms: LinearForms, region: Region) -> Objective:
        """One row for each box and clause: the average of the clause's rows with the largest minimum, nearly.

        Where all rows of a clause fail, every average of them does: ``max over averages of min over x`` is the value of
        ``min over x of max over rows`` for linear rows (von Neumann). Weights by entropic mirror ascent.
        """
        member = torch.zeros(self.claim.clause_count, len(self.claim.clauses), dtype=torch.bool)
        member[self.claim.clauses, torch.arange(len(self.claim.clauses))] = True
        logits = torch.where(member, 0.0, -torch.inf).to(forms.constant).expand(region.batch, -1, -1)
        for step in range(_MIXING_STEPS):
            weights = logits.softmax(2)
            x = region.minimiser((weights @ forms.coefficients).unflatten(2, region.shape)).flatten(2)
            values = x @ forms.coefficients.transpose(1, 2) + forms.constant[:, None]
            spread = (values.amax(2, keepdim=True) - values.amin(2, keepdim=True)).clamp(min=1e-30)
            logits = logits + _MIXING_RATE / (1 + step) ** 0.5 * values / spread
        weights = logits.softmax(2).nan_to_num()
        coefficients = (weights @ self.objective.coefficients.flatten(2)).unflatten(2, self.network.output.shape)
        constant = (weights @ self.objective.constant[0][:, None])[..., 0]
        return Objective(self.objective.node, coefficients, constant - self._mixing_loss)

    def attack(self, boxes: _Boxes, runtime: Runtime) -> Tensor | None:
        """A confirmed counterexample near the boxes' centres, if float64 finds one there."""
        points = (boxes.lower / 2 + boxes.upper / 2).unflatten(1, self.region.shape)
        broken = self.claim.broken(self.claim.margins(self.network(points))).nonzero()[:, 0]
        for position in broken[:_MOST_CONFIRMED].tolist():
            found = confirmed(points[position : position + 1], self.query, runtime)
            if found is not None:
                return found
        return None

    def halves(self, boxes: _Boxes, scores: Tensor) -> _Boxes | None:
        """Both halves of every box along its input of the largest score, side by side, the box with the best margin
        first; ``None`` if one is too narrow."""
        share = (boxes.upper - boxes.lower) / (self.region.upper - self.region.lower).flatten(1).clamp(min=1e-300)
        if bool((share.amax(1) < self.options.narrowest).any()):
            return None
        # Where no neuron loses anything, the widest input is as good as any; one without width never is.
        best = scores.nan_to_num() + 1e-12 * share * (1 + scores.nan_to_num().amax(1, keepdim=True))
        axis = best.masked_fill(share < self.options.narrowest, -1.0).argmax(1, keepdim=True)
        middle = (boxes.lower / 2 + boxes.upper / 2).gather(1, axis)
        below = replace(boxes, upper=boxes.upper.scatter(1, axis, middle)).tensors()
        above = replace(boxes, lower=boxes.lower.scatter(1, axis, middle)).tensors()
        order = _widest_margin_first(boxes)
        both = _Boxes(**{name: torch.cat([value, above[name]]) for name, value in below.items()})
        return both[torch.stack([order, order + len(order)], dim=1).flatten()]


def _widest_margin_first(boxes: _Boxes) -> Tensor:
    """The order in which halves are added: the worst box last, so that it is taken next."""
    return boxes.worst.argsort(descending=True)


def cut(
    forms: LinearForms, clause: Tensor, lower: Tensor, upper: Tensor, proved: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """The smallest box, nearly, around the points of each box where all rows of an open clause may be negative or zero.

    Where ``a . x + c <= 0`` has to be, ``a_i x_i`` is at most ``-c`` less the least that the other terms can be. A
    clause without such points is proved. Returns the bounds ``(N, inputs)``, empty where no clause is open, and which
    clauses are proved ``(N, c)``.
    """
    proved = proved.clone()
    hull_low, hull_high = torch.full_like(lower, torch.inf), torch.full_like(upper, -torch.inf)
    for number in range(proved.shape[1]):
        rows = (clause == number).nonzero()[:, 0].tolist()
        low, high = lower, upper
        for row in rows * (_CUTTING_ROUNDS if len(rows) > 1 else 1):
            a, c = forms.coefficients[:, row], forms.constant[:, row : row + 1]
            least = torch.minimum(a * low, a * high)
            slack = ROUNDING * (c.abs() + least.abs().sum(1, keepdim=True))
            limit = (least - (least.sum(1, keepdim=True) + c - slack)) / torch.where(a == 0, 1.0, a)
            outwards = ROUNDING * limit.abs()
            # fmin, fmax: a limit that is NaN limits nothing
            high = torch.where(a > 0, torch.fmin(high, limit + outwards), high)
            low = torch.where(a < 0, torch.fmax(low, limit - outwards), low)
        # Not "not <=": a bound that is NaN must not close a box.
        proved[:, number] |= (low > high).any(1)
        none = proved[:, number : number + 1]
        hull_low = torch.minimum(hull_low, torch.where(none, torch.inf, low))
        hull_high = torch.maximum(hull_high, torch.where(none, -torch.inf, high))
    return hull_low, hull_high, proved
