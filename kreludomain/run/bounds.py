"""``kreludomain bounds``: the bounds of all layers around one input, as tables and as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.table import Table

from kreludomain.data import Sample
from kreludomain.data.arrays import read_array
from kreludomain.data.keys import DataKeys
from kreludomain.data.sources import file_keys, read_samples
from kreludomain.domain import LayerBounds
from kreludomain.errors import InputError
from kreludomain.network import Network, load
from kreludomain.options import check
from kreludomain.property import Region
from kreludomain.property import box as box_region
from kreludomain.run.config.methods import key_values, method_from_arguments
from kreludomain.run.config.networks import OutputName
from kreludomain.run.config.region import RegionConfig
from kreludomain.run.config.yaml_text import parse_yaml
from kreludomain.run.output.screen import screen
from kreludomain.run.output.tables import plain_table, shown
from kreludomain.verify import bounds as layer_bounds


def bounds(
    network: Annotated[Path, typer.Argument(metavar="NETWORK", help="An ONNX file.")],
    file: Annotated[
        Path | None, typer.Option("--data", "--csv", metavar="FILE", help="Samples: a .csv, .npy, .npz or .pt file.")
    ] = None,
    row: Annotated[int, typer.Option(min=0, help="The row of --data, from 0.")] = 0,
    key: Annotated[
        list[str] | None,
        typer.Option("--key", metavar="KEY=VALUE", help="A key of the data, as in a configuration: header=true."),
    ] = None,
    digits: Annotated[
        int | None, typer.Option(metavar="I", min=0, help="One of scikit-learn's digits, from 0.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, train or all: where --digits counts.")] = "test",
    array: Annotated[Path | None, typer.Option("--input", metavar="FILE.npy", help="An input as an array.")] = None,
    box: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="LOWER.npy UPPER.npy", help="A box instead of a ball.")
    ] = None,
    norm: Annotated[str, typer.Option(help="inf, 1 or 2.")] = "inf",
    epsilon: Annotated[str | None, typer.Option(help="The radius around the input, such as 0.1 or 8/255.")] = None,
    clip: Annotated[
        tuple[str, str] | None,
        typer.Option(metavar="LOW HIGH", help="The values that inputs can have."),
    ] = None,
    method: Annotated[str, typer.Option(help="A method's name, as in a configuration.")] = "deeppoly",
    option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the method.")] = None,
    output_name: OutputName = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write all bounds to a file.")] = None,
) -> None:
    """Show the bounds of all layers of NETWORK around one input."""
    keys = key_values("--key", key or [], ("first", "count"))
    named, loaded = method_from_arguments(method, option or []), load(network, output_name, announce=False)
    sources = {"--data": file, "--digits": digits, "--input": array, "--box": box}
    given = [name for name, value in sources.items() if value is not None]
    if len(given) != 1:
        raise InputError(f"give one of {', '.join(sources)}, not {' and '.join(given) or 'none'}")
    if box is None and epsilon is None and "epsilon" not in keys:
        raise InputError("--epsilon: missing; it is the radius around the input")
    region: Region
    if box is not None:
        region = box_region(*map(read_array, box))
    else:
        data: DataKeys | None = None
        if array is not None:
            chosen: Sequence[Sample] = [Sample(0, None, read_array(array))]
        else:
            digit = {"split": split, "first": digits, "count": 1}
            data = file_keys("digits", digit) if file is None else file_keys(file, {"first": row, "count": 1, **keys})
            chosen = read_samples(data, loaded)
        radius = None if epsilon is None else parse_yaml(epsilon, "--epsilon")
        sides = None if clip is None else [parse_yaml(side, "--clip") for side in clip]
        around = check(RegionConfig, {"norm": norm, "epsilon": radius, "clip": sides}, "region")
        region = around.surroundings(Path, loaded, data, chosen).region(chosen[0])
    found = layer_bounds(loaded, region, named.method)
    if output is not None:
        with output.open("wb") as written:
            np.savez(written, **arrays(found))
    console = screen()
    for note in loaded.notes:
        console.print(f"note: {note}", soft_wrap=True, markup=False)
    console.print(layers_table(loaded, found))
    console.print(outputs_table(loaded, found))


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
