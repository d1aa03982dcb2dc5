"""Reachable sets in a plane: the set itself, exact or sampled, and the polygon by which each method bounds it."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console

from kreludomain.analysis.reachable import (
    Plane,
    ReachableSet,
    SupportBounds,
    area,
    circumscribe,
    linear_expression,
    reachable_set,
)
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.config.methods import NamedMethod, try_methods
from kreludomain.run.config.region import RegionConfig
from kreludomain.run.engine.folder import Folder, arrays_file
from kreludomain.run.engine.study import Computed, Study, Task
from kreludomain.run.show.config import DirectionValue, PlaneConfig, Scene
from kreludomain.run.show.plane_rows import SetRow, nesting, sets_csv, sets_table

#: The file with the points and the pieces of the reachable set.
ARRAYS = "reachable_set.npz"
#: The reason of a polygon whose gap is as small as the configuration wants it.
ACCURATE = "accurate"


@dataclass(frozen=True, kw_only=True, eq=False)
class SetTask(Task[SetRow]):
    """A method's set in the plane; without a method, the reachable set itself."""

    method: NamedMethod | None


@dataclass(frozen=True, eq=False)
class PlaneStudy(Study[PlaneConfig, SetTask, SetRow]):
    """``kreludomain show`` of reachable sets."""

    config_model = PlaneConfig
    row_type = SetRow
    outcomes = ("computed",)

    config: PlaneConfig
    scene: Scene
    plane: Plane

    @classmethod
    def prepare(cls, file: ConfigFile[PlaneConfig]) -> PlaneStudy:
        config, scene = file.config, Scene.load(file, file.config)
        given, network = config.plane, scene.network
        norm = config.region.norm if isinstance(config.region, RegionConfig) else "inf"
        with file.named():
            size = network.size(network.output.name if given.node is None else network[given.node].name)
        with file.named("plane.x"):
            x = linear_expression(given.x, size)
        with file.named("plane.y"):
            y = linear_expression(given.y, size)
        with file.named():
            plane = Plane.of(network, x, y, given.node)
        try_methods(file, norm, config.methods)
        return cls(config, scene, plane)

    def notes(self) -> Sequence[str]:
        return self.scene.network.notes

    def contents(self) -> Mapping[str, str]:
        return self.scene.contents()

    def tasks(self) -> Sequence[SetTask]:
        rows = [
            (SetRow(None), None),
            *((SetRow(method.label, method.is_joint), method) for method in self.config.methods),
        ]
        return [SetTask(row=row, text=row.name, kind=row.name, method=method) for row, method in rows]

    def compute(self, task: SetTask, needed: SetRow | None) -> Computed[SetRow]:
        return self._reachable(task.row) if task.method is None else Computed(self._bounded(task.row, task.method))

    def _reachable(self, row: SetRow) -> Computed[SetRow]:
        start, scene, config = time.monotonic(), self.scene, self.config
        found = reachable_set(scene.network, scene.region, self.plane, config.samples, config.seed)
        reason = f"exact: {len(found.pieces)} linear pieces" if found.exact else f"{len(found.points)} sampled outputs"
        row = replace(row, pieces=len(found.pieces), points=len(found.points), reason=reason)
        sizes = np.array([len(piece) for piece in found.pieces], dtype=int)
        vertices = np.concatenate([np.zeros((0, 2)), *found.pieces])
        arrays = arrays_file(points=found.points, vertices=vertices, sizes=sizes)
        return Computed(self._measured(row, found.hull, start), {ARRAYS: arrays})

    def _bounded(self, row: SetRow, method: NamedMethod) -> SetRow:
        start, scene, config = time.monotonic(), self.scene, self.config
        deadline = Deadline.after(config.timeout_s)
        abstraction = method.method.abstract(Query(scene.network, scene.region, deadline=deadline))
        support = SupportBounds(abstraction, self.plane, deadline)
        normals = self._unsafe()[0]
        found = circumscribe(support, config.accuracy, config.directions, -normals, lambda: deadline.passed)
        accurate = found.gap <= config.accuracy * float(np.ptp(found.vertices, axis=0).max())
        row = replace(
            row,
            directions=len(found.supports),
            gap=found.gap,
            reason=ACCURATE if accurate else "time limit" if deadline.passed else "all directions asked",
            notes=tuple(support.notes),
        )
        return self._measured(row, found.vertices, start)

    def _measured(self, row: SetRow, vertices: np.ndarray, start: float) -> SetRow:
        """The row with a polygon ``(V, 2)`` and what is measured of it."""
        normals, levels = self._unsafe()
        slack = 1e-9 * np.abs(normals).sum(1) * np.abs(vertices).max()  # far more than the vertices are rounded
        margins = (vertices @ normals.T).min(0) - levels - slack
        return replace(
            row,
            vertices=tuple((float(x), float(y)) for x, y in vertices),
            area=area(vertices),
            margins=tuple(margins.tolist()),
            seconds=time.monotonic() - start,
        )

    def _unsafe(self) -> tuple[np.ndarray, np.ndarray]:
        """Normals ``(n, 2)`` and levels ``(n,)`` of the unsafe half-planes."""
        sides = self.config.unsafe
        return np.array([[s.x, s.y] for s in sides]).reshape(-1, 2), np.array([s.at for s in sides])

    def report(self, folder: Folder, rows: Sequence[SetRow], console: Console) -> None:
        from kreludomain.run.show.plane_figure import sets_figure  # matplotlib: imports for a second, and only here

        reachable, *methods = rows
        order: list[SetRow] = [*methods, reachable]
        console.print(sets_table(order, reachable, [side.label for side in self.config.unsafe]))
        for row in order:
            for note in (*([] if row.reason == ACCURATE else [row.reason]), *row.notes):
                console.print(f"{row.name}: {note}", soft_wrap=True)
        console.print(nesting(order), soft_wrap=True)
        folder.write("sets.csv", sets_csv(order, reachable))
        axes = self.config.plane
        labels = axes.labels or (_label(axes.x, axes.node), _label(axes.y, axes.node))
        folder.write_all(sets_figure(self.config, labels, _stored(folder, reachable), methods))


def _stored(folder: Folder, row: SetRow) -> ReachableSet | None:
    """The reachable set that was written with its row; ``None`` where it failed."""
    if not row.vertices:
        return None
    with np.load(folder.path / ARRAYS) as arrays:
        pieces = np.split(arrays["vertices"], np.cumsum(arrays["sizes"])[:-1]) if len(arrays["sizes"]) else []
        return ReachableSet(arrays["points"], tuple(pieces), row.polygon)


def _label(given: DirectionValue, node: str | None) -> str:
    """A direction as the label of an axis."""
    values = node or "output"
    if isinstance(given, int):
        return f"{values} {given}"
    weights = given.items() if isinstance(given, Mapping) else enumerate(given)
    terms = [f"{'+' if w > 0 else '-'} {'' if abs(w) == 1 else f'{abs(w):g} '}{values} {p}" for p, w in weights if w]
    return " ".join(terms[:4]).removeprefix("+ ") + (" ..." if len(terms) > 4 else "")
