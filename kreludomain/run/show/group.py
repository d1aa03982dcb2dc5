"""Relaxations of a pair of neurons, all over the same octahedron of pre-activations."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from rich.console import Console

from kreludomain.analysis.reachable import NeuronPair, relaxation_vertices, volume
from kreludomain.run.config.files import ConfigFile
from kreludomain.run.engine.folder import Folder
from kreludomain.run.engine.study import Computed, Row, Study, Task
from kreludomain.run.output.tables import csv_text, plain_table, shown
from kreludomain.run.show.config import GroupConfig, PairBounds, Scene
from kreludomain.verify import abstract


@dataclass(frozen=True)
class RelaxationRow(Row):
    """The set of ``(x1, x2, y1, y2)`` that a relaxation allows.

    ``vertices``: the set's, none where it could not be computed; ``volume``: its own; ``lowest`` and ``highest``: the
    range of ``weights . y`` over it.
    """

    identity = ("relaxation",)

    relaxation: str
    vertices: tuple[tuple[float, float, float, float], ...] = ()
    volume: float | None = None
    lowest: float | None = None
    highest: float | None = None
    seconds: float = 0.0
    reason: str = ""

    @property
    def outcome(self) -> str:
        return "computed" if self.vertices else "failed"


@dataclass(frozen=True, eq=False)
class GroupStudy(Study[GroupConfig, Task[RelaxationRow], RelaxationRow]):
    """``kreludomain show`` of a pair of neurons."""

    config_model = GroupConfig
    row_type = RelaxationRow
    outcomes = ("computed",)

    config: GroupConfig
    pair: NeuronPair
    scene: Scene | None

    @classmethod
    def prepare(cls, file: ConfigFile[GroupConfig]) -> GroupStudy:
        group = file.config.group
        if isinstance(group, PairBounds):
            with file.named():
                pair = NeuronPair.from_bounds(group.lower, group.upper, group.sum, group.difference)
            return cls(file.config, pair, None)
        scene = Scene.load(file, group)
        with file.named():
            bounded = abstract(scene.network, scene.region, group.method.method)
            return cls(file.config, NeuronPair.from_abstraction(bounded, group.node, *group.neurons), scene)

    def notes(self) -> Sequence[str]:
        return () if self.scene is None else self.scene.network.notes

    def contents(self) -> Mapping[str, str]:
        return {} if self.scene is None else self.scene.contents()

    def tasks(self) -> Sequence[Task[RelaxationRow]]:
        return [Task(row=RelaxationRow(name), text=name, kind=name) for name in self.config.relaxations]

    def compute(self, task: Task[RelaxationRow], needed: RelaxationRow | None) -> Computed[RelaxationRow]:
        start = time.monotonic()
        vertices = relaxation_vertices(self.pair, task.text)
        heights = vertices[:, 2:] @ np.array(self.config.weights)
        row = replace(
            task.row,
            vertices=tuple((float(a), float(b), float(c), float(d)) for a, b, c, d in vertices),
            volume=volume(vertices),
            lowest=float(heights.min()),
            highest=float(heights.max()),
            seconds=time.monotonic() - start,
            reason="computed",
        )
        return Computed(row)

    def report(self, folder: Folder, rows: Sequence[RelaxationRow], console: Console) -> None:
        from kreludomain.run.show.group_figure import pair_figure  # matplotlib: imports for a second, and only here

        hull = volume(relaxation_vertices(self.pair, "joint"))
        cells = [(r.relaxation, r.volume, r.volume and r.volume / hull, r.lowest, r.highest) for r in rows]
        table = plain_table("relaxation", "volume", "of the joint", "from", "to")
        for name, *numbers in cells:
            table.add_row(name, *map(shown, numbers))
        a, b = self.config.weights
        table.caption = f"volume of the set of (x1, x2, y1, y2); from, to: range of {a:g} y1 + {b:g} y2 in it"
        console.print(table)
        folder.write("group.csv", csv_text(("relaxation", "volume", "volume_of_joint", "lowest", "highest"), cells))
        found = {row.relaxation: np.array(row.vertices) for row in rows if row.vertices}
        folder.write_all(pair_figure(self.config, self.pair, found))
