"""Questions: what is asked of every sample, from which its claim is made.

A claim is about the outputs of one network; a question is about samples, each with its label or target: that its class
stays, that its value is predicted to within half a unit. Questions are in a table by name, :data:`QUESTIONS`; a new one
is a class here, and has its name in YAML and Python at once.

A question about classes says when the network's own answer at the sample is not what it asks for: such a sample is
*misclassified*. For a question about values there is no such thing: a sample where it fails is a counterexample like
any other input.
"""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor

from kreludomain.activations import Sigmoid
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.network.operators import Activation, AffineOperator
from kreludomain.options import Options
from kreludomain.property import factories
from kreludomain.property.claim import Claim
from kreludomain.property.claim import claim as linear_claim
from kreludomain.property.monotone import Monotonicity, monotone
from kreludomain.property.names import Names

#: A sample's value to regress on: one number, or one an output.
Target = float | Sequence[float] | None


class Question(Options, ABC):
    """What is asked of every sample: a frozen dataclass, whose fields are its options.

    ``label`` is a sample's class and ``target`` its value, ``None`` where the data has none. ``quantity``: what the
    lower bounds that a method finds are of; where it is positive, the claim is proved.
    """

    quantity: ClassVar[str] = "margin"

    @abstractmethod
    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim | Monotonicity:
        """The claim about a sample. Raises :class:`InputError` for a label or target that does not fit the network."""

    @abstractmethod
    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        """The claim as a clause of text."""

    def answer(self, network: Network, x: Tensor) -> int | float | None:
        """The network's own answer at ``x`` ``(*input_shape)``: its class, or the value of its only output."""
        outputs = _outputs(network, x)[0]
        return float(outputs) if len(outputs) == 1 else int(outputs.argmax())

    def mismatch(self, network: Network, x: Tensor, label: int | None = None, target: Target = None) -> str | None:
        """Why the network's own answer at ``x`` ``(*input_shape)`` is not the class that is asked for; ``None`` if it
        is, or if the question is not about classes."""
        return None

    def of(self, label: int | None, name: str | None = None) -> Question:
        """The question for samples of a label, which the data may have a ``name`` for. Raises :class:`InputError`
        where there is none."""
        return self

    def named(self, names: Names) -> Question:
        """The same question with positions in place of the data's names. Raises :class:`InputError`."""
        return self


@dataclass(frozen=True)
class Robust(Question):
    """The class stays the sample's label: its output is larger than every other.

    One output is above the ``threshold`` for label 1, below it for label 0 (or -1): if not given, 0, or 1/2 where the
    network ends in a sigmoid.
    """

    threshold: float | None = None

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim:
        classes = network.size(network.output.name)
        if classes > 1 and self.threshold is not None:
            raise InputError(f"threshold: the network has {classes} outputs, whose largest is the class")
        return factories.robustness(_labelled(label), classes, decision_threshold(network, self.threshold))

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        return f"classified as {label}"

    def answer(self, network: Network, x: Tensor) -> int:
        return int(predict(network, x[None], self.threshold)[0])

    def mismatch(self, network: Network, x: Tensor, label: int | None = None, target: Target = None) -> str | None:
        predicted = self.answer(network, x)
        return None if predicted == max(0, _labelled(label)) else f"classified as {predicted}, the label is {label}"


@dataclass(frozen=True)
class TopK(Question):
    """The sample's label is among the ``k`` largest outputs."""

    k: int

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.k < 1:
            raise InputError(f"k: {self.k} is not a number from 1 up")

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim:
        return factories.top_k(_labelled(label), self.k, network.size(network.output.name))

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        return f"the output of {label} is among the {self.k} largest"

    def mismatch(self, network: Network, x: Tensor, label: int | None = None, target: Target = None) -> str | None:
        claim, outputs = self.claim(network, label), _outputs(network, x)
        if bool(claim.broken(claim.margins(outputs)).all()):
            largest = outputs[0].argsort(descending=True)[: self.k].tolist()
            return f"the largest outputs are {', '.join(map(str, largest))}, the label is {label}"
        return None


@dataclass(frozen=True)
class Targeted(Question):
    """The output of the sample's label stays above those of ``targets``: classes that it must not be taken for.

    A sample whose label is the only target has no such class, and its claim is true.
    """

    targets: int | str | tuple[int | str, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self._targets:
            raise InputError("targets: should have at least one item")

    @property
    def _targets(self) -> tuple[int | str, ...]:
        return self.targets if isinstance(self.targets, tuple) else (self.targets,)

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim:
        classes = network.size(network.output.name)
        targets = [Names().label(each) for each in self._targets]
        if {_labelled(label)} == set(targets):
            factories.require_classes(targets, classes, "target")
            return linear_claim(torch.zeros(1, classes, dtype=torch.float64), torch.ones(1, dtype=torch.float64))
        return factories.targeted(_labelled(label), targets, classes)

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        return f"the output of {label} is larger than that of {_listed(self._targets)}"

    def mismatch(self, network: Network, x: Tensor, label: int | None = None, target: Target = None) -> str | None:
        claim, outputs = self.claim(network, label), _outputs(network, x)
        if bool(claim.broken(claim.margins(outputs)).all()):
            return f"classified as {int(outputs[0].argmax())}, a target; the label is {label}"
        return None

    def named(self, names: Names) -> Question:
        return dataclasses.replace(self, targets=tuple(names.label(each) for each in self._targets))


@dataclass(frozen=True)
class Within(Question):
    """Every output is at most ``delta`` away from the sample's target; ``delta`` is one number, or one an output."""

    delta: float | tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.delta if isinstance(self.delta, tuple) else (self.delta,), default=-1.0) < 0:
            raise InputError(f"delta: {self.delta} is not a number from 0 up, or a list of them")

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim:
        if target is None:
            where = "'target' of the data names the column, or 'targets' the array"
            raise InputError(f"within: the sample has no target, the number that is to be predicted; {where}")
        values, outputs = torch.as_tensor(target, dtype=torch.float64).flatten(), network.size(network.output.name)
        if len(values) != outputs:
            raise InputError(f"within: the sample has {len(values)} targets, the network {outputs} outputs")
        return factories.within(values, self.delta)

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        delta = self.delta if isinstance(self.delta, tuple) else (self.delta,)
        return f"the output is within {', '.join(f'{each:g}' for each in delta)} of {target}"

    def answer(self, network: Network, x: Tensor) -> float | None:
        return _value(network, x)


@dataclass(frozen=True)
class Equivalent(Question):
    """The outputs of two networks differ by at most ``within``: one number, or one an output.

    It is asked of the difference of two networks (:func:`difference`), which the key ``networks`` makes.
    """

    within: float | tuple[float, ...]

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.within if isinstance(self.within, tuple) else (self.within,), default=-1.0) < 0:
            raise InputError(f"within: {self.within} is not a number from 0 up, or a list of them")

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim:
        if network.terms is None:
            raise InputError("equivalent: is asked of two networks, as in networks: [a.onnx, b.onnx]")
        return factories.within([0.0] * network.size(network.output.name), self.within)

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        within = self.within if isinstance(self.within, tuple) else (self.within,)
        return f"the outputs of both networks differ by at most {', '.join(f'{each:g}' for each in within)}"

    def answer(self, network: Network, x: Tensor) -> float:
        """The largest difference at ``x``."""
        return float(_outputs(network, x).abs().max())


@dataclass(frozen=True)
class Between(Question):
    """An ``output`` (its position; the only one if not given) is ``above`` a number, ``below`` one, or both."""

    above: float | None = None
    below: float | None = None
    output: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        factories.between(self.above, self.below)  # raises for numbers that leave nothing

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim:
        return factories.between(self.above, self.below, self.output, network.size(network.output.name))

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        sides = (("above", self.above), ("below", self.below))
        said = " and ".join(f"{side} {number:g}" for side, number in sides if number is not None)
        return f"{'the output' if self.output is None else f'output {self.output}'} is {said}"


@dataclass(frozen=True)
class Monotone(Question):
    """An ``output`` does not fall where one ``feature`` grows alone; ``direction: decreasing``: it does not rise.

    ``feature``: a position in the input, flat, or the data's name for it; or several of them, each on its own.
    ``output``: its position; the only one if not given; less the output ``minus`` where that is given. ``tolerance``:
    how far below zero the slope may be, in units of the output for one of the feature.
    """

    quantity = "slope"

    feature: int | str | tuple[int | str, ...]
    direction: Literal["increasing", "decreasing"] = "increasing"
    output: int | None = None
    minus: int | None = None
    tolerance: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self._features:
            raise InputError("feature: should have at least one item")
        if self.tolerance < 0:
            raise InputError(f"tolerance: {self.tolerance} is not a number from 0 up")

    @property
    def _features(self) -> tuple[int | str, ...]:
        return self.feature if isinstance(self.feature, tuple) else (self.feature,)

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Monotonicity:
        features = [Names().feature(each) for each in self._features]
        outputs = network.size(network.output.name)
        claim = monotone(features, self.direction, self.output, self.minus, outputs, self.tolerance)
        claim.require_fit(network)
        return claim

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        said = "the output" if self.output is None else f"output {self.output}"
        said += "" if self.minus is None else f" minus output {self.minus}"
        plural = "s" if len(self._features) > 1 else ""
        return f"{said} is {self.direction} in feature{plural} {_listed(self._features)}"

    def answer(self, network: Network, x: Tensor) -> float | None:
        return _value(network, x)

    def named(self, names: Names) -> Question:
        return dataclasses.replace(self, feature=tuple(names.feature(each) for each in self._features))


Row = tuple[float, ...]


@dataclass(frozen=True)
class Linear(Question):
    """``C f(x) + d > 0`` in every row, the same for every sample; ``d`` is zero if not given."""

    C: tuple[Row, ...]
    d: Row | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.C:
            raise InputError("C: should have at least one row")
        widths = {len(row) for row in self.C}
        if len(widths) > 1:
            raise InputError(f"C: rows of different lengths ({', '.join(map(str, sorted(widths)))})")
        if self.d is not None and len(self.d) != len(self.C):
            raise InputError(f"d: should have {len(self.C)} numbers, one a row of C, not {len(self.d)}")

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim:
        d = None if self.d is None else torch.tensor(self.d, dtype=torch.float64)
        return linear_claim(torch.tensor(self.C, dtype=torch.float64), d)

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        return f"C f(x) + d > 0, {len(self.C)} row{'s' * (len(self.C) > 1)}, the same for every sample"


@dataclass(frozen=True)
class PerLabel(Question):
    """Another question for each label: ``questions`` by the classes' numbers, or by the data's names for them."""

    questions: Mapping[int | str, Question] = field()

    def __post_init__(self) -> None:
        super().__post_init__()
        if not self.questions:
            raise InputError("questions: should have at least one label")

    def of(self, label: int | None, name: str | None = None) -> Question:
        found = self.questions.get(_labelled(label)) or self.questions.get(name or "")
        if found is None:
            given = ", ".join(map(str, self.questions))
            raise InputError(f"per_label: there is no claim for label {label}, only for {given}")
        return found

    def claim(self, network: Network, label: int | None = None, target: Target = None) -> Claim | Monotonicity:
        return self.of(label).claim(network, label, target)

    def words(self, label: str = "the sample's label", target: str = "the sample's target") -> str:
        return "; ".join(f"label {each}: {question.words(label, target)}" for each, question in self.questions.items())

    def mismatch(self, network: Network, x: Tensor, label: int | None = None, target: Target = None) -> str | None:
        return self.of(label).mismatch(network, x, label, target)

    def named(self, names: Names) -> Question:
        return PerLabel({names.label(label): each.named(names) for label, each in self.questions.items()})


#: Questions by their names in YAML, where ``C`` and ``d`` of :class:`Linear` are given as they are.
QUESTIONS: dict[str, type[Question]] = {
    "robust": Robust,
    "top_k": TopK,
    "targeted": Targeted,
    "within": Within,
    "between": Between,
    "equivalent": Equivalent,
    "monotone": Monotone,
    "per_label": PerLabel,
}


def decision_threshold(network: Network, given: float | None = None) -> float:
    """What the only output of a network is held against: ``given``, or 1/2 after a sigmoid, 0 otherwise."""
    if given is not None:
        return given
    node = network.output
    while isinstance(node.operator, AffineOperator) and len(node.inputs) == 1 and not node.operator.tensors():
        node = network[node.inputs[0]]  # shapes only
    ends_in_sigmoid = isinstance(node.operator, Activation) and isinstance(node.operator.function, Sigmoid)
    return 0.5 if ends_in_sigmoid else 0.0


def predict(network: Network, x: Tensor, threshold: float | None = None) -> Tensor:
    """The class of each input ``(N, *input_shape)``, ``(N,)``: the position of the largest output.

    Of one output it is 1 above the threshold (see :class:`Robust`), 0 elsewhere.
    """
    with torch.no_grad():
        outputs = network(x.to(dtype=network.dtype, device=network.device)).flatten(1)
    if outputs.shape[1] == 1:
        return (outputs[:, 0] > decision_threshold(network, threshold)).long()
    return outputs.argmax(1)


def _outputs(network: Network, x: Tensor) -> Tensor:
    with torch.no_grad():
        return network(x[None].to(dtype=network.dtype, device=network.device)).flatten(1).double()


def _value(network: Network, x: Tensor) -> float | None:
    """The value of the only output; ``None`` where there are several."""
    outputs = _outputs(network, x)[0]
    return float(outputs) if len(outputs) == 1 else None


def _labelled(label: int | None) -> int:
    if label is None:
        raise InputError(
            "the sample has no label, which the claim is about; label or labels in data name it; "
            "of a target, ask {within: DELTA}"
        )
    return label


def _listed(values: Sequence[Any]) -> str:
    return " and ".join(filter(None, [", ".join(map(str, values[:-1])), str(values[-1])]))
