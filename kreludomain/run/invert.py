"""``kreludomain invert``: radii of invertibility around points, and of one network being a function of another."""

from __future__ import annotations

import dataclasses
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Literal

import numpy
import torch
from pydantic import Field, Strict, model_validator
from torch import Tensor

from kreludomain.analysis.invert import (
    InvertibilityOptions,
    InvertibilityRadius,
    check_can_be_invertible,
    check_same_inputs,
    pair_radius,
    preimage_radius,
    transformation_radius,
)
from kreludomain.errors import InputError
from kreludomain.network import Network, load
from kreludomain.programs.solvers.highs import version as highs_version
from kreludomain.run import invert_tables
from kreludomain.run.config.data import load_samples
from kreludomain.run.config.fields import Data, FilePath, Interval, Norm, Numbers, Text
from kreludomain.run.config.files import ConfigFile, RunKeys, load_config
from kreludomain.run.config.methods import MethodItem, NamedMethod, parse_method
from kreludomain.run.config.schema import Keys, wrong
from kreludomain.run.engine.folder import CONFIG, ROWS, Folder, versions
from kreludomain.run.engine.session import Session
from kreludomain.run.output.screen import progress, screen

#: What this command writes beside rows and configuration.
WRITTEN = ("radii.csv", "radii.png", "radii.svg", "plane.png", "plane.svg")

Asked = Literal["r", "R", "transformation"]


class CurveConfig(Keys):
    """A curve to draw: a CSV file with a row ``x,y`` a point."""

    csv: FilePath
    label: Text


class PlaneConfig(Keys):
    """The part of the plane that a picture shows, for networks from two inputs to two outputs."""

    lower: Interval
    upper: Interval
    curve: CurveConfig | None = None

    @model_validator(mode="after")
    def _not_empty(self) -> PlaneConfig:
        if not all(low < high for low, high in zip(self.lower, self.upper, strict=True)):
            raise wrong({("upper",): "should be above lower in both entries"})
        return self


class InvertConfig(RunKeys):
    """A configuration file of ``kreludomain invert``.

    ``points`` (or samples of ``data``) are the centres. ``onto``: networks that are to be functions of the network, and
    with ``both_ways`` the network of them. ``questions``: r and R, or the transformation where ``onto`` is given.
    """

    network: FilePath
    onto: Annotated[tuple[FilePath, ...], Strict(False)] = ()
    both_ways: bool = False
    points: Annotated[tuple[Numbers, ...], Strict(False)] | None = None
    data: Data | None = None
    questions: Annotated[tuple[Asked, ...], Strict(False)] | None = None
    norms: Annotated[tuple[Norm, ...], Strict(False), Field(min_length=1)] = ("inf",)
    radius: float = Field(gt=0)
    epsilon: float = Field(gt=0)
    clip: Interval | None = None
    stages: Annotated[tuple[float, ...], Strict(False)] = (0.125, 0.25, 0.5, 1.0)
    strict: bool = True
    gap: float = Field(1e-3, gt=0)
    methods: Annotated[tuple[MethodItem, ...], Strict(False), Field(min_length=1)] = (parse_method("deeppoly"),)
    plane: PlaneConfig | None = None

    @model_validator(mode="after")
    def _fits(self) -> InvertConfig:
        if (self.points is None) == (self.data is None):
            raise wrong({("points",): "give either points or data"})
        asked = self.asked
        if ("transformation" in asked) != bool(self.onto):
            raise wrong({("onto",): "a transformation needs networks in 'onto', and they need that question"})
        labels = [method.label for method in self.methods]
        for name, values in {"methods": labels, "norms": self.norms, "questions": asked, "onto": self.onto}.items():
            if len(set(values)) < len(values):
                raise wrong({(name,): "something is there twice"})
        return self

    @property
    def asked(self) -> tuple[Asked, ...]:
        """The questions, with the default filled in."""
        return self.questions or (("transformation",) if self.onto else ("r", "R"))


@dataclass(frozen=True)
class Row:
    """A radius as ``results.jsonl`` has it.

    ``lower`` is certified; ``upper`` belongs to ``points``, two inputs whose images differ by ``residual`` and which
    are ``apart`` from each other (for a transformation: their second images). ``strict`` as in
    :class:`~kreludomain.analysis.invert.InvertibilityRadius`.
    """

    index: int
    center: tuple[float, ...]
    question: str
    network: str
    onto: str | None
    norm: str
    method: str
    epsilon: float
    searched: float
    lower: float = 0.0
    upper: float | None = None
    strict: float | None = None
    reason: str = ""
    seconds: float = 0.0
    bounds_seconds: float = 0.0
    programs: int = 0
    nodes: int = 0
    binaries: int = 0
    points: tuple[tuple[float, ...], tuple[float, ...]] | None = None
    residual: float | None = None
    apart: float | None = None
    notes: tuple[str, ...] = ()

    def with_radius(self, found: InvertibilityRadius) -> Row:
        row = replace(
            self,
            **{name: getattr(found, name) for name in ("lower", "upper", "strict", "reason", "notes")},
            **dataclasses.asdict(found.effort),
        )
        if found.witness is None:
            return row
        first, second = (tuple(point.flatten().tolist()) for point in found.witness.points)
        return replace(row, points=(first, second), residual=found.witness.residual, apart=found.witness.apart)


@dataclass(frozen=True, eq=False)
class Task:
    """A row that is to be, and what computes it."""

    row: Row
    answer: Callable[[], InvertibilityRadius]

    def done(self) -> Row:
        start = time.monotonic()
        try:
            return self.row.with_radius(self.answer())
        except Exception as error:  # one row's failure, whatever it is, must not take the others with it
            reason = " ".join(f"error: {type(error).__name__}: {error}".split())
            return replace(self.row, reason=reason, seconds=time.monotonic() - start)


@dataclass(frozen=True, eq=False)
class InvertRun:
    """A configuration with everything that it names: loaded, checked, ready to go."""

    config: InvertConfig
    network: Network
    onto: tuple[tuple[str, Network], ...]
    centers: tuple[tuple[int, Tensor], ...]
    curve: numpy.ndarray | None

    def tasks(self) -> Iterator[Task]:
        """Centres first, then questions, norms and methods."""
        config = self.config
        for index, center in self.centers:
            for question, name, onto, compute in self._questions():
                for norm in config.norms:
                    for method in config.methods:
                        row = Row(
                            index,
                            tuple(center.flatten().tolist()),
                            question,
                            name,
                            onto,
                            norm,
                            method.label,
                            config.epsilon,
                            config.radius,
                        )
                        yield Task(row, self._bound(compute, center, self.search(norm, method)))

    def search(self, norm: str, method: NamedMethod) -> InvertibilityOptions:
        c = self.config
        return InvertibilityOptions(c.radius, c.epsilon, norm, c.clip, method.method, c.gap, c.stages, c.strict)

    def _bound(
        self, compute: _Compute, center: Tensor, search: InvertibilityOptions
    ) -> Callable[[], InvertibilityRadius]:
        return lambda: compute(center, search, self.config.timeout_s)

    def _questions(self) -> Iterator[tuple[str, str, str | None, _Compute]]:
        """Every question with the names of its networks, and what answers it."""
        own, name = self.network, Path(self.config.network).stem
        for question in self.config.asked:
            if question == "r":
                yield question, name, None, lambda *given: pair_radius(own, *given)
            elif question == "R":
                yield question, name, None, lambda *given: preimage_radius(own, *given)
            else:
                for other, network in self.onto:
                    yield question, name, other, _transformation(own, network)
                    if self.config.both_ways:
                        yield question, other, name, _transformation(network, own)


_Compute = Callable[[Tensor, InvertibilityOptions, float | None], InvertibilityRadius]


def _transformation(first: Network, second: Network) -> _Compute:
    return lambda *given: transformation_radius(first, second, *given)


def prepare_invert(file: ConfigFile[InvertConfig]) -> InvertRun:
    """Loads and checks everything. Raises :class:`InputError` for what would go wrong in every row."""
    config = file.config
    network = load(file.path(config.network))
    onto = tuple((Path(each).stem, load(file.path(each))) for each in config.onto)
    curve = None
    try:
        if "r" in config.asked:
            check_can_be_invertible(network)
        for _, other in onto:
            check_same_inputs(network, other)
        for norm in config.norms:
            InvertibilityOptions(config.radius, config.epsilon, norm, config.clip, gap=config.gap, stages=config.stages)
        if config.plane is not None:
            _check_plane(network)
            curve = None if config.plane.curve is None else read_curve(file.path(config.plane.curve.csv))
        centers = tuple(_centers(file, network))
    except InputError as error:
        text = str(error)
        raise InputError(text if text.startswith(str(file.source.parent)) else f"{file.source}: {text}") from None
    return InvertRun(config, network, onto, centers, curve)


def _centers(file: ConfigFile[InvertConfig], network: Network) -> Iterator[tuple[int, Tensor]]:
    config, shape = file.config, network.input.shape
    if config.data is not None:
        yield from ((sample.index, sample.x) for sample in load_samples(file, config.data, shape))
    size = network.size(network.input.name)
    for index, point in enumerate(config.points or ()):
        if len(point) != size:
            raise InputError(f"points[{index}]: {len(point)} numbers, the network takes {size}")
        if config.clip is not None and not all(config.clip[0] <= value <= config.clip[1] for value in point):
            raise InputError(f"points[{index}]: lies outside clip {list(config.clip)}")
        yield index, torch.tensor(point, dtype=torch.float64).reshape(shape)


def _check_plane(network: Network) -> None:
    shapes = network.size(network.input.name), network.size(network.output.name)
    if shapes != (2, 2):
        raise InputError(f"plane: the network has {shapes[0]} inputs and {shapes[1]} outputs, a picture takes 2 and 2")


def read_curve(path: Path) -> numpy.ndarray:
    """Points ``(N, 2)`` of a CSV file."""
    if not path.exists():
        raise InputError(f"{path}: no such file")
    try:
        points = numpy.loadtxt(path, delimiter=",", ndmin=2)
    except ValueError as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from None
    if points.shape[1] != 2 or not numpy.isfinite(points).all():
        raise InputError(f"{path}: rows of two finite numbers are expected")
    return points


def invert(path: Path, output: Path | None, overwrite: bool) -> None:
    """Runs a configuration; rows, a CSV file and pictures go to the output folder, a table to the screen."""
    rows: list[Row] = []
    with Session() as session:
        file = load_config(path, InvertConfig)
        target = file.output(output)
        Folder.check(target, overwrite)  # before anything that takes time
        run = prepare_invert(file)
        folder = session.open(target, overwrite, WRITTEN)
        folder.write(CONFIG, file.resolved(target, versions(highs=highs_version())))
        with progress() as bar:
            tasks = list(run.tasks())
            shown = bar.add_task("", total=len(tasks))
            for task in tasks:
                bar.update(shown, description=f"{task.row.question} at {task.row.index}, norm {task.row.norm}")
                rows.append(task.done())
                folder.append(rows[-1])
                bar.update(shown, advance=1)
        _report(run, folder, rows)


def _report(run: InvertRun, folder: Folder, rows: list[Row]) -> None:
    from kreludomain.run.invert_plots import save_plane, save_radii  # matplotlib: imports for a second, and only here

    folder.write("radii.csv", invert_tables.radii_csv(rows))
    save_radii(folder.path, rows)
    files = ["radii.csv", "radii.png and radii.svg"]
    if run.config.plane is not None:
        save_plane(folder.path, run, rows)
        files.append("plane.png and plane.svg")
    console = screen()
    console.print(invert_tables.radii_table(rows))
    if len(run.config.methods) > 1:
        console.print(invert_tables.methods_table(rows))
    console.print(f"{folder.count} rows in {folder.path / ROWS}; {', '.join(files)} beside it", soft_wrap=True)
