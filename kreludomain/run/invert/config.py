"""The configuration of ``kreludomain invert``: the YAML file's keys."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Strict, model_validator

from kreludomain.options import FilePath, Keys, Text, wrong
from kreludomain.run.config.files import Clip, Data, Interval, Norm, Numbers, RunKeys
from kreludomain.run.config.methods import Methods, parse_method
from kreludomain.run.config.networks import NetworkItem

Question = Literal["r", "R", "transformation"]


class CurveConfig(Keys):
    """A curve to draw: a CSV file with a row ``x,y`` a point."""

    csv: FilePath
    label: Text


class WindowConfig(Keys):
    """The part of the plane that a picture shows, for networks from two inputs to two outputs."""

    lower: Interval
    upper: Interval
    curve: CurveConfig | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> WindowConfig:
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise wrong({("upper",): "should be above lower in both entries"})
        return self


class InvertConfig(RunKeys):
    """A configuration file of ``kreludomain invert``; a row is a centre, a question, a norm and a method.

    ``points`` (or samples of ``data``) are the centres. ``onto``: networks that are to be functions of the network, and
    with ``both_ways`` the network of them. ``questions``: r and R, or the transformation where ``onto`` is given. The
    other keys are those of :class:`~kreludomain.analysis.invert.InvertibilityOptions`.
    """

    network: NetworkItem
    onto: Annotated[tuple[NetworkItem, ...], Strict(False)] = ()
    both_ways: bool = False
    points: Annotated[tuple[Numbers, ...], Strict(False)] | None = None
    data: Data | None = None
    questions: Annotated[tuple[Question, ...], Strict(False)] | None = None
    norms: Annotated[tuple[Norm, ...], Strict(False), Field(min_length=1)] = ("inf",)
    radius: float = Field(gt=0)
    epsilon: float = Field(gt=0)
    clip: Clip | None = None
    stages: Annotated[tuple[float, ...], Strict(False)] = (0.125, 0.25, 0.5, 1.0)
    strict: bool = True
    gap: float = Field(1e-3, gt=0)
    methods: Methods = (parse_method("deeppoly"),)
    plane: WindowConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> InvertConfig:
        if (self.points is None) == (self.data is None):
            raise wrong({("points",): "give either points or data"})
        asked = self.asked
        if ("transformation" in asked) != bool(self.onto):
            raise wrong({("onto",): "a transformation needs networks in 'onto', and they need that question"})
        for name, values in {"norms": self.norms, "questions": asked, "onto": self.onto}.items():
            if len(set(values)) < len(values):
                raise wrong({(name,): "something is there twice"})
        return self

    @property
    def asked(self) -> tuple[Question, ...]:
        """The questions, with the default filled in."""
        return self.questions or (("transformation",) if self.onto else ("r", "R"))
