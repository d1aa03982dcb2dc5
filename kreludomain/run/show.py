"""``kreludomain show``: a configuration in, pictures of relaxations and the numbers behind them out."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path

import numpy as np

from kreludomain.analysis.reachable import (
    NeuronPair,
    Plane,
    ReachableSet,
    SupportBounds,
    area,
    circumscribe,
    nesting_violations,
    reachable_set,
    relaxation_vertices,
    volume,
)
from kreludomain.deadline import Deadline
from kreludomain.domain import Query
from kreludomain.errors import InputError
from kreludomain.network import Network
from kreludomain.property import Region
from kreludomain.run.config.methods import NamedMethod
from kreludomain.run.engine.folder import CONFIG, ROWS, Folder, versions
from kreludomain.run.engine.session import Session
from kreludomain.run.output.screen import progress, screen
from kreludomain.run.output.tables import Cell, csv_text, plain_table, shown
from kreludomain.run.show_config import GroupShow, PlaneShow, ShowFile, load_show

#: What the truth is called in rows and tables.
TRUTH = "truth"
#: What this command writes besides what every run does: removed, and nothing else, when a folder is used again.
WRITTEN = ("reach.*", "group.*", "sets.csv")


@dataclass(frozen=True)
class SetRow:
    """A set in the plane.

    ``corners`` are those of its polygon, counterclockwise (for the truth, of its convex hull). ``gap``: how far one of
    them may stick out of what the method knows. ``reach``: the smallest value of each unsafe half-plane's expression
    less its ``at``, positive where the set is proved to keep clear of it. ``exact``: of the truth, whether it is
    everything that occurs or samples of it.
    """

    method: str
    joint: bool
    area: float
    corners: tuple[tuple[float, float], ...]
    directions: int
    gap: float
    reach: tuple[float, ...]
    seconds: float
    exact: bool | None = None
    notes: tuple[str, ...] = ()

    @property
    def polygon(self) -> np.ndarray:
        return np.array(self.corners)


def show(path: Path, output: Path | None, overwrite: bool) -> None:
    """Draws what a configuration asks for; pictures and rows go to the output folder, a table to the screen."""
    sets: list[SetRow] = []
    with Session() as session:
        file = load_show(path)
        target = file.output(output)
        Folder.check(target, overwrite)  # before anything that takes time
        config = file.config
        if isinstance(config, GroupShow):
            pair = file.pair(config)
            _show_group(config, pair, _folder(session, file, target, overwrite))
            return
        network, region = file.scene(config)
        plane = file.plane(config, network)
        folder = _folder(session, file, target, overwrite)
        start = time.monotonic()
        found = reachable_set(network, region, plane, config.samples, config.seed)
        sets.append(_truth_row(config, found, time.monotonic() - start))
        folder.append(sets[-1])
        for row in _sets(file, config, network, region, plane):
            sets.append(row)
            folder.append(row)
        _finish(config, network, found, sets, folder)


def _folder(session: Session, file: ShowFile, target: Path, overwrite: bool) -> Folder:
    folder = session.open(target, overwrite, WRITTEN)
    folder.write(CONFIG, file.resolved(target, versions()))
    return folder


# Reachable sets -------------------------------------------------------------------------------------------------------


def _sets(file: ShowFile, config: PlaneShow, network: Network, region: Region, plane: Plane) -> Iterator[SetRow]:
    """A row a method, in the configuration's order."""
    with progress() as bar:
        task = bar.add_task("", total=config.directions * len(config.methods))
        for position, method in enumerate(config.methods):
            bar.update(task, completed=config.directions * position, description=method.label)
            with _named(file, position, method):
                yield _set(config, network, region, plane, method, lambda count: bar.update(task, advance=count))


def _set(
    config: PlaneShow,
    network: Network,
    region: Region,
    plane: Plane,
    method: NamedMethod,
    told: Callable[[int], None],
) -> SetRow:
    """A method's polygon; ``told`` hears of every direction that is done."""
    start, deadline = time.monotonic(), Deadline.after(config.timeout_s)
    bounded = SupportBounds(method.method.abstract(Query(network, region, deadline=deadline)), plane, deadline)

    def supports(directions: np.ndarray) -> np.ndarray:
        # In small batches, so that what takes long shows how far it is.
        parts = []
        for part in np.array_split(directions, -(-len(directions) // 8)):
            parts.append(bounded(part))
            told(len(part))
        return np.concatenate(parts)

    around = circumscribe(
        supports, config.accuracy, config.directions, initial=-_normals(config), stop=lambda: deadline.passed
    )
    notes = list(bounded.notes)
    if around.gap > config.accuracy * float(np.ptp(around.vertices, axis=0).max()):
        notes.append(f"{len(around.supports)} directions: corners may stick out by {around.gap:.3g}")
    return SetRow(
        method.label,
        method.is_joint,
        around.area,
        _listed(around.vertices),
        len(around.supports),
        around.gap,
        _reach(config, around.vertices),
        time.monotonic() - start,
        notes=tuple(notes),
    )


@contextmanager
def _named(file: ShowFile, position: int, method: NamedMethod) -> Iterator[None]:
    """What goes wrong with a method is said with its name."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{file.source}: methods[{position}] ({method.label}): {error}") from None


def _truth_row(config: PlaneShow, found: ReachableSet, seconds: float) -> SetRow:
    return SetRow(
        TRUTH,
        False,
        area(found.hull),
        _listed(found.hull),
        0,
        0.0,
        _reach(config, found.hull),
        seconds,
        exact=found.exact,
        notes=(_said(found),),
    )


def _said(found: ReachableSet) -> str:
    return f"exact: {len(found.pieces)} linear pieces" if found.exact else f"{len(found.points)} outputs that occur"


def _normals(config: PlaneShow) -> np.ndarray:
    return np.array([[side.x, side.y] for side in config.unsafe]).reshape(-1, 2)


def _reach(config: PlaneShow, corners: np.ndarray) -> tuple[float, ...]:
    """The smallest value over a polygon of each unsafe half-plane's expression, less its ``at``.

    Moved outwards by far more than the corners are rounded.
    """
    normals, levels = _normals(config), np.array([side.at for side in config.unsafe])
    slack = 1e-9 * np.abs(normals).sum(1) * np.abs(corners).max()
    values: list[float] = ((corners @ normals.T).min(0) - levels - slack).tolist()
    return tuple(values)


def _listed(corners: np.ndarray) -> tuple[tuple[float, float], ...]:
    return tuple((float(x), float(y)) for x, y in corners)


def _finish(config: PlaneShow, network: Network, found: ReachableSet, sets: list[SetRow], folder: Folder) -> None:
    from kreludomain.run.show_plots import save_sets  # matplotlib: imports for a second, and only here

    known, *methods = sets
    order = [*methods, known]
    sides = [f"clear of {side.label}" for side in config.unsafe]
    table = plain_table("set", "area", "of the truth's", "x from", "x to", "y from", "y to", *sides, "directions", "s")
    for row in order:
        low, high = row.polygon.min(0), row.polygon.max(0)
        ratio = row.area / known.area if known.area > 0 else None
        sides_clear = [_clear(row, position) for position in range(len(sides))]
        ends = (low[0], high[0], low[1], high[1])
        count = "-" if row is known else str(row.directions)
        table.add_row(
            row.method, shown(row.area), shown(ratio), *map(shown, ends), *sides_clear, count, shown(row.seconds)
        )
    folder.write("sets.csv", _sets_csv(order, known.area))
    save_sets(folder.path, config, network, found, methods)
    console = screen()
    console.print(table)
    console.print(f"truth: {_said(found)}, area of their convex hull")
    console.print(nesting(order), soft_wrap=True)
    for row in methods:
        for note in row.notes:
            console.print(f"{row.method}: {note}", soft_wrap=True)
    console.print(f"reach.png, reach.svg, sets.csv and {ROWS} are in {folder.path}", soft_wrap=True)


def _clear(row: SetRow, position: int) -> str:
    """Whether a set keeps clear of an unsafe half-plane; only a sound set can prove it, a sample can only refute."""
    if row.reach[position] > 0:
        return "yes" if row.exact is not False else "not refuted"
    return "no"


def nesting(order: list[SetRow]) -> str:
    """Which sets lie inside the one before them, up to how far their polygons are from being exact."""
    outside = nesting_violations([row.polygon for row in order])
    broken = [
        f"{inner.method} does not lie inside {outer.method} (by {shown(by)})"
        for (outer, inner), by in zip(pairwise(order), outside, strict=True)
        if by > inner.gap + 1e-6 * float(np.ptp(outer.polygon, axis=0).max())
    ]
    return "; ".join(broken) + "." if broken else "Each set lies inside the one above it."


def _sets_csv(order: list[SetRow], known: float) -> str:
    columns = ("method", "area", "area_of_truth_hull", "corners", "directions", "gap", "seconds")
    rows: list[list[Cell]] = [[r.method, r.area, known, len(r.corners), r.directions, r.gap, r.seconds] for r in order]
    return csv_text(columns, rows)


# Two neurons ----------------------------------------------------------------------------------------------------------


def _show_group(config: GroupShow, pair: NeuronPair, folder: Folder) -> None:
    from kreludomain.run.show_group_plots import save_group

    found = {kind: relaxation_vertices(pair, kind) for kind in config.relaxations}
    volumes = {kind: volume(corners) for kind, corners in found.items()}
    best = volume(relaxation_vertices(pair, "joint"))
    table = plain_table("relaxation", "volume", "of the joint", "from", "to")
    weights, rows = np.array(config.weights), []
    for kind, corners in found.items():
        height = corners[:, 2:] @ weights
        ratio = volumes[kind] / best if best > 0 else None
        rows.append((kind, volumes[kind], ratio, float(height.min()), float(height.max())))
        table.add_row(kind, *map(shown, rows[-1][1:]))
    folder.write("group.csv", csv_text(("relaxation", "volume", "volume_of_joint", "lowest", "highest"), rows))
    for kind, corners in found.items():
        folder.append({"relaxation": kind, "corners": corners.tolist()})
    save_group(folder.path, config, pair, found)
    console = screen()
    console.print(table)
    a, b = config.weights
    console.print(f"volume of the set of (x1, x2, y1, y2); from, to: range of {a:g} y1 + {b:g} y2 in it")
    console.print(f"group.png, group.svg, group.csv and {ROWS} are in {folder.path}", soft_wrap=True)
