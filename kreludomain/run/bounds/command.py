"""``kreludomain bounds``: the bounds of all layers around one input, as tables and as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.table import Table
from torch import Tensor

from kreludomain.domain import LayerBounds
from kreludomain.errors import InputError
from kreludomain.network import Network, load
from kreludomain.network.operators import Shape
from kreludomain.property import Region, ball, box
from kreludomain.run.config.data import load_csv, load_digits, read_array
from kreludomain.run.config.fields import CsvData, DigitsData, RegionConfig, check
from kreludomain.run.config.methods import NamedMethod, method_from_arguments
from kreludomain.run.output.screen import screen
from kreludomain.run.output.tables import plain_table, shown
from kreludomain.verify import bounds


@dataclass(frozen=True)
class Request:
    """The command's arguments. ``rows`` belongs to ``csv``, ``split`` to ``digits``."""

    network: Path
    csv: Path | None
    rows: Mapping[str, Any]
    digits: int | None
    split: str
    array: Path | None
    box: tuple[Path, Path] | None
    region: Mapping[str, Any]
    method: str
    options: Sequence[str]

    def make_method(self) -> NamedMethod:
        return method_from_arguments(self.method, self.options)

    def make_region(self, shape: Shape) -> Region:
        """The region for a network that takes inputs of ``shape``."""
        sources = {"--csv": self.csv, "--digits": self.digits, "--input": self.array, "--box": self.box}
        given = [name for name, value in sources.items() if value is not None]
        if len(given) != 1:
            raise InputError(f"give one of {', '.join(sources)}, not {' and '.join(given) or 'none'}")
        if self.box is not None:
            return box(*map(read_array, self.box))
        if self.region["epsilon"] is None:
            raise InputError("--epsilon: missing; it is the radius around the input")
        around = check(RegionConfig, self.region, "region")
        return ball(self._input(shape), around.epsilon, around.norm, around.clip)

    def _input(self, shape: Shape) -> Tensor:
        if self.array is not None:
            return read_array(self.array)
        if self.csv is not None:
            (sample,) = load_csv(self.csv, check(CsvData, {"csv": str(self.csv), **self.rows}, "--csv"), shape)
            return sample.x
        chosen = {"name": "digits", "split": self.split, "first": self.digits, "count": 1}
        (sample,) = load_digits(check(DigitsData, chosen, "--digits"), shape)
        return sample.x


def show_bounds(request: Request, output: Path | None) -> None:
    """Computes the bounds, shows them, and writes them to ``output`` (npz) if that is given."""
    method, network = request.make_method(), load(request.network)
    found = bounds(network, request.make_region(network.input.shape), method.method)
    if output is not None:
        with output.open("wb") as file:
            np.savez(file, **arrays(found))
    console = screen()
    console.print(layers_table(network, found))
    console.print(outputs_table(network, found))


def layers_table(network: Network, bounds: LayerBounds) -> Table:
    """A row a node; a neuron is active or inactive where its sign is decided, counted where a ReLU takes it."""
    columns = ("shape", "neurons", "unstable", "active", "inactive", "mean width", "max width")
    table = plain_table("layer", "operator", *columns)
    for node in network.nodes:
        found = bounds[node.name]
        counts = ["-"] * 3
        if network.feeds_relu(node.name):
            decided = (found.unstable, found.lower >= 0, (found.upper <= 0) & (found.lower < 0))
            counts = [str(int(where.sum())) for where in decided]
        width = found.width
        table.add_row(
            node.name,
            node.operator.kind.lower(),
            "x".join(map(str, node.shape)),
            str(network.size(node.name)),
            *counts,
            shown(float(width.mean())),
            shown(float(width.max())),
        )
    return table


def outputs_table(network: Network, bounds: LayerBounds) -> Table:
    """A row an output."""
    table = plain_table("output", "lower", "upper")
    found = bounds[network.output.name]
    pairs = zip(found.lower.flatten().tolist(), found.upper.flatten().tolist(), strict=True)
    for position, (lower, upper) in enumerate(pairs):
        table.add_row(str(position), f"{lower:.6g}", f"{upper:.6g}")
    return table


def arrays(bounds: LayerBounds) -> dict[str, Any]:
    """``NAME.lower`` and ``NAME.upper`` of every node."""
    return {
        f"{name}.{side}": getattr(found, side)[0].cpu().numpy()
        for name, found in bounds.items()
        for side in ("lower", "upper")
    }
