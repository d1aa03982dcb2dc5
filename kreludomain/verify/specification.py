"""One answer for a whole specification: its properties one by one under one deadline."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import torch
from torch import Tensor

from kreludomain.attack import PGDAttack, can_be_confirmed, confirmation
from kreludomain.deadline import Deadline
from kreludomain.domain import Method, Query
from kreludomain.network import Network, Runtime
from kreludomain.property import Property, Specification
from kreludomain.property.logits import at_logits
from kreludomain.verify.certificate import Verdict, open_clauses
from kreludomain.verify.certify import certify
from kreludomain.verify.methods import make_method
from kreludomain.verify.stages import StageSeconds

#: The share of the time that goes into quick attacks on every property, where there are several.
_ATTACK_SHARE = 0.2
#: The share of the time after that in which every property gets its turn; the rest is for those that need more.
_TURN_SHARE = 0.5


@dataclass(frozen=True, eq=False)
class Answer:
    """The verdict on a specification: *verified* only if every property is, *falsified* if one is.

    ``counterexample`` ``(*input_shape)``, in the network's own type, is there if *falsified*; onnxruntime has confirmed
    it with the outputs ``outputs`` ``(*output_shape)`` of the network that was asked about. ``verdicts`` are those of
    the properties, ``stages`` the seconds that went into each stage, ``reason`` says why it stopped there.
    """

    verdict: Verdict
    seconds: float
    reason: str
    verdicts: tuple[Verdict, ...]
    counterexample: Tensor | None = None
    outputs: Tensor | None = None
    stages: Mapping[str, float] = field(default_factory=dict)


def decide(
    network: Network,
    specification: Specification,
    method: str | Method = "complete",
    timeout_s: float | None = None,
    strict: bool = False,
    **options: object,
) -> Answer:
    """Whether every property of a specification of ``network`` holds; ``method``, ``strict`` and ``options`` as in
    :func:`certify`.

    Several properties are attacked before any is proved. Then each gets its turn, and those that need more time share
    what the others have left. Raises :class:`InputError` for what does not fit the network.
    """
    made = make_method(method, **options)
    return _SpecificationDecision(network, specification, made, Deadline.after(timeout_s), strict).run()


class _Refutation(NamedTuple):
    """A counterexample ``(*input_shape)``, the outputs there ``(*output_shape)``, and what confirms it."""

    counterexample: Tensor
    outputs: Tensor
    reason: str


class _SpecificationDecision:
    """The properties of one specification on their way to a verdict each."""

    def __init__(
        self, network: Network, specification: Specification, method: Method, deadline: Deadline, strict: bool
    ) -> None:
        self.network, self.method, self.deadline = network, method, deadline
        self.strict = strict
        # The network as it was read has the last word, also where a property is about its inputs and outputs together.
        self.joined = specification.network is not network
        asked, claims = at_logits(specification.network, [prop.claim for prop in specification.properties])
        pairs = zip(specification.properties, claims, strict=True)
        about = tuple(replace(prop, claim=claim) for prop, claim in pairs)
        self.specification = replace(specification, network=asked, properties=about)
        self.about = asked.to(dtype=torch.float64)
        self.runtime = Runtime(asked)
        self.original = Runtime(network) if self.joined else self.runtime
        self.verdicts = [Verdict.TIMEOUT] * len(specification.properties)  # of what is not come to
        self.reasons = ["not come to in the time there was"] * len(specification.properties)
        self.attack = (method.own_attack or PGDAttack()).quick()
        self.stages = StageSeconds()
        self.start = time.monotonic()

    def run(self) -> Answer:
        several = len(self.specification.properties) > 1
        for stage in (self._attacks, self._turns, self._rest) if several else (self._rest,):
            found = stage()
            if found is not None:
                return self._falsified(found)
        return self._undecided_or_verified()

    def _attacks(self) -> _Refutation | None:
        until = self._share(_ATTACK_SHARE)
        with self.stages.of("attack"):
            for position, prop in enumerate(self.specification.properties):
                if until.passed:
                    break
                query = Query(self.about, prop.region, prop.claim, deadline=until, strict=self.strict)
                if not can_be_confirmed(query, self.runtime):
                    continue
                point = self.attack.search(query, self.runtime)
                found = None if point is None else self._confirmed(prop, point)
                if found is not None:
                    self.verdicts[position] = Verdict.FALSIFIED
                    return found
        return None

    def _turns(self) -> _Refutation | None:
        """Every property for an equal share of the time, with the time that others left of theirs."""
        until, count = self._share(_TURN_SHARE), len(self.specification.properties)
        for position, prop in enumerate(self.specification.properties):
            found = self._certified(position, prop, until.remaining / (count - position))
            if found is not None:
                return found
        return None

    def _rest(self) -> _Refutation | None:
        """Properties that are open yet, in turn, each for as long as it takes."""
        for position, prop in enumerate(self.specification.properties):
            if self.verdicts[position] == Verdict.TIMEOUT:
                found = self._certified(position, prop, self.deadline.remaining)
                if found is not None:
                    return found
        return None

    def _certified(self, position: int, prop: Property, seconds: float) -> _Refutation | None:
        """A counterexample to the property, if it is refuted; the verdict and its reason are noted."""
        limit = None if seconds == float("inf") else seconds
        certificate = certify(
            self.about,
            prop.region,
            prop.claim,
            self.method,
            timeout_s=limit,
            strict=self.strict,
            runtime=self.runtime,
        )
        for stage, spent in certificate.stages.items():
            self.stages.add(stage, spent)
        self.verdicts[position], self.reasons[position] = certificate.verdict, certificate.reason
        if certificate.verdict == Verdict.TIMEOUT:  # the limit is a share of the user's, which would only confuse
            self.reasons[position] = f"out of time; {open_clauses(prop.claim, certificate.lower_bounds)}"
        if certificate.counterexample is None:
            return None
        found = self._confirmed(prop, certificate.counterexample[None])
        if found is None:
            self.verdicts[position] = Verdict.UNKNOWN
            self.reasons[position] = "a counterexample that the network as it was read does not confirm"
        return found

    def _confirmed(self, prop: Property, x: Tensor) -> _Refutation | None:
        """The refutation by a point ``(1, *input_shape)``, if by the network as it was read it is a counterexample."""
        outputs = self.original(x)
        compared = torch.cat([x.flatten(1), outputs.flatten(1)], 1) if self.joined else outputs
        if not bool(prop.broken(x, compared).all()):
            return None
        if self.original.is_cut:
            outputs = Runtime(self.network, whole=True)(x)
        return _Refutation(x[0], outputs[0], confirmation(x, prop.region.fit(self.about)))

    def _share(self, share: float) -> Deadline:
        return Deadline(time.monotonic() + share * self.deadline.remaining)

    def _falsified(self, found: _Refutation) -> Answer:
        seconds, verdicts = time.monotonic() - self.start, tuple(self.verdicts)
        return Answer(
            Verdict.FALSIFIED, seconds, found.reason, verdicts, found.counterexample, found.outputs, self.stages
        )

    def _undecided_or_verified(self) -> Answer:
        open_ = [position for position, verdict in enumerate(self.verdicts) if verdict != Verdict.VERIFIED]
        verdict, reason = Verdict.VERIFIED, self.specification.note or "every property is proved"
        if open_:
            late = self.deadline.passed and any(self.verdicts[position] == Verdict.TIMEOUT for position in open_)
            verdict = Verdict.TIMEOUT if late else Verdict.UNKNOWN
            reason = self.reasons[open_[0]]
            if len(self.verdicts) > 1:
                reason = f"{len(open_)} of {len(self.verdicts)} properties are open, property {open_[0]}: {reason}"
        return Answer(verdict, time.monotonic() - self.start, reason, tuple(self.verdicts), stages=self.stages)
