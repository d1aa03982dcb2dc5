"""The command line. What is wrong with the input is one line on stderr and exit code 2; the work is done elsewhere."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Literal

import typer

import kreludomain
from kreludomain.errors import InputError
from kreludomain.run.bounds.command import Request, show_bounds
from kreludomain.run.certify import commands
from kreludomain.run.certify.commands import Options
from kreludomain.run.engine import machine
from kreludomain.run.engine.progress import Mode
from kreludomain.run.invert import invert as run_invert
from kreludomain.run.lipschitz import lipschitz as run_lipschitz
from kreludomain.run.moments import moments as run_moments
from kreludomain.run.output.screen import errors, screen
from kreludomain.run.show import show as run_show
from kreludomain.run.vnncomp.benchmark import Placement, Selection
from kreludomain.run.vnncomp.benchmark import benchmark as run_benchmark
from kreludomain.run.vnncomp.instance import Solver
from kreludomain.run.vnncomp.verify import verify as run_verify

#: The exit code after Ctrl-C, as in shells: 128 and the number of the signal.
INTERRUPTED = 130

app = typer.Typer(
    help="Certifies ReLU networks with joint relaxations of groups of neurons (k-ReLU).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)

ConfigPath = Annotated[Path, typer.Argument(metavar="CONFIG", help="A YAML file; configs/ has examples.")]
Output = Annotated[Path | None, typer.Option(metavar="DIR", help="Folder of the results, instead of CONFIG's.")]
Overwrite = Annotated[bool, typer.Option("--overwrite", help="Replace the results that the folder has.")]
Resume = Annotated[bool, typer.Option("--resume", help="Go on with the results that the folder has.")]
Workers = Annotated[
    int | None, typer.Option(metavar="N", min=1, help="Processes; as many as fit the machine if not given.")
]
Threads = Annotated[int | None, typer.Option(metavar="N", min=1, help="Threads of each process.")]
Cluster = Annotated[Literal["ray"] | None, typer.Option(help="Where to compute instead of on this machine.")]
Quiet = Annotated[bool, typer.Option("--quiet", help="Nothing but errors and the last line.")]
Json = Annotated[
    bool, typer.Option("--json", help="A line of JSON on stdout for each row as it comes, then a summary.")
]
LogLevel = Annotated[
    Literal["debug", "info", "warning", "error"] | None, typer.Option(help="What is logged; warnings if not given.")
]
LogFile = Annotated[Path | None, typer.Option(metavar="FILE", help="Log to the end of a file, not to stderr.")]
MethodName = Annotated[str, typer.Option("--method", help="A method's name, as in a configuration.")]
MethodOptions = Annotated[list[str] | None, typer.Option("--option", metavar="KEY=VALUE", help="One of its options.")]
Device = Annotated[str | None, typer.Option(metavar="DEVICE", help="Where it computes: cpu, cuda.")]
MemoryMb = Annotated[int | None, typer.Option(metavar="N", min=1, help="MiB that an instance may take.")]


def _version(wanted: bool) -> None:
    if wanted:
        screen().print(f"kreludomain {kreludomain.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


@app.command()
def certify(
    config: ConfigPath,
    output: Output = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    workers: Workers = None,
    threads: Threads = None,
    cluster: Cluster = None,
    quiet: Quiet = False,
    json: Json = False,
    log_level: LogLevel = None,
    log_file: LogFile = None,
) -> None:
    """Decide a claim for every sample with every method of CONFIG."""
    placed = Options(output, overwrite, resume, workers, threads, cluster)
    commands.certify(config, replace(placed, mode=_mode(quiet, json), log_level=log_level, log_file=log_file))


@app.command()
def compare(
    config: ConfigPath,
    output: Output = None,
    overwrite: Overwrite = False,
    resume: Resume = False,
    workers: Workers = None,
    threads: Threads = None,
    cluster: Cluster = None,
    quiet: Quiet = False,
    json: Json = False,
    log_level: LogLevel = None,
    log_file: LogFile = None,
) -> None:
    """Certify, and show margins, widths and seconds of the methods side by side.

    Tables on the screen, CSV files and a plot in the folder."""
    placed = Options(output, overwrite, resume, workers, threads, cluster)
    commands.compare(config, replace(placed, mode=_mode(quiet, json), log_level=log_level, log_file=log_file))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of certify or compare.")],
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to, instead of the first RUN.")] = None,
) -> None:
    """Write one HTML page about runs, which needs no network to be read, and its tables as CSV files."""
    from kreludomain.run.report.page import report as write_report  # matplotlib: imports for a second, and only here

    write_report(runs, output)


def _mode(quiet: bool, json: bool) -> Mode:
    if quiet and json:
        raise InputError("--quiet and --json: give one of them, not both")
    return Mode.JSON if json else Mode.QUIET if quiet else Mode.NORMAL


@app.command()
def verify(
    context: typer.Context,
    network: Annotated[Path, typer.Argument(metavar="NET.onnx", help="An ONNX file; .gz too.")],
    specification: Annotated[Path, typer.Argument(metavar="SPEC.vnnlib", help="A VNN-LIB file; .gz too.")],
    timeout: Annotated[
        float | None, typer.Option(metavar="S", min=0, help="Seconds, from the start of the process on.")
    ] = None,
    results_file: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the answer there too.")] = None,
    method: MethodName = "complete",
    option: MethodOptions = None,
    device: Device = None,
    threads: Threads = None,
    memory_mb: MemoryMb = None,
) -> None:
    """Decide one VNN-LIB property: unsat (it holds), sat and a counterexample, unknown, or timeout."""
    solver = Solver(method, option or [], device, threads, memory_mb)
    run_verify(network, specification, solver, timeout, results_file, context.obj)


@app.command()
def benchmark(
    instances: Annotated[
        Path, typer.Argument(metavar="INSTANCES.csv", help="A list of ONNX files, VNN-LIB files and seconds.")
    ],
    text: Annotated[
        str | None, typer.Option("--filter", metavar="TEXT", help="Only instances with this in family or files.")
    ] = None,
    timeout: Annotated[float | None, typer.Option(metavar="S", min=0, help="The most seconds of any instance.")] = None,
    output: Annotated[Path, typer.Option(metavar="DIR", help="Folder of the results.")] = Placement.output,
    overwrite: Overwrite = False,
    resume: Resume = False,
    workers: Workers = None,
    threads: Threads = None,
    method: MethodName = "complete",
    option: MethodOptions = None,
    device: Device = None,
    memory_mb: MemoryMb = None,
) -> None:
    """Solve a list of VNN-LIB instances, and hold the answers against those that the list expects."""
    solver = Solver(method, option or [], device, threads, memory_mb)
    run_benchmark(instances, Selection(text, timeout), solver, Placement(output, overwrite, resume, workers))


@app.command()
def moments(config: ConfigPath, output: Output = None, overwrite: Overwrite = False) -> None:
    """Mean and covariance of the output under Gaussian noise, and Gaussian attacks."""
    run_moments(config, output, overwrite)


@app.command()
def show(config: ConfigPath, output: Output = None, overwrite: Overwrite = False) -> None:
    """Draw reachable sets in a plane, or the relaxations of two neurons, as CONFIG says."""
    run_show(config, output, overwrite)


@app.command()
def invert(config: ConfigPath, output: Output = None, overwrite: Overwrite = False) -> None:
    """Certify how far around points a network is invertible, or one network a function of another."""
    run_invert(config, output, overwrite)


@app.command()
def lipschitz(config: ConfigPath, output: Output = None, overwrite: Overwrite = False) -> None:
    """Bracket Lipschitz constants, and compare the robust radii that follow with certified ones."""
    run_lipschitz(config, output, overwrite)


@app.command()
def bounds(
    network: Annotated[Path, typer.Argument(metavar="NETWORK", help="An ONNX file.")],
    csv: Annotated[Path | None, typer.Option(metavar="FILE", help="A CSV file with a row a sample.")] = None,
    row: Annotated[int, typer.Option(min=0, help="The row of --csv, from 0.")] = 0,
    scale: Annotated[float, typer.Option(help="What the values of --csv are divided by.")] = 1.0,
    layout: Annotated[str, typer.Option(help="hwc or chw: the order of the values of --csv.")] = "chw",
    digits: Annotated[
        int | None, typer.Option(metavar="I", min=0, help="One of scikit-learn's digits, from 0.")
    ] = None,
    split: Annotated[str, typer.Option(help="test, train or all: where --digits counts.")] = "test",
    array: Annotated[Path | None, typer.Option("--input", metavar="FILE.npy", help="An input as an array.")] = None,
    box: Annotated[
        tuple[Path, Path] | None, typer.Option(metavar="LOWER.npy UPPER.npy", help="A box instead of a ball.")
    ] = None,
    norm: Annotated[str, typer.Option(help="inf, 1 or 2.")] = "inf",
    epsilon: Annotated[float | None, typer.Option(help="The radius around the input.")] = None,
    clip: Annotated[tuple[float, float] | None, typer.Option(metavar="LOW HIGH", help="What inputs can be.")] = None,
    method: Annotated[str, typer.Option(help="A method's name, as in a configuration.")] = "deeppoly",
    option: Annotated[list[str] | None, typer.Option(metavar="KEY=VALUE", help="An option of the method.")] = None,
    output: Annotated[Path | None, typer.Option(metavar="FILE.npz", help="Write all bounds to a file.")] = None,
) -> None:
    """Show the bounds of all layers of NETWORK around one input."""
    region = {"norm": norm, "epsilon": epsilon, "clip": clip}
    rows = {"scale": scale, "layout": layout, "first": row, "count": 1}
    request = Request(network, csv, rows, digits, split, array, box, region, method, option or [])
    show_bounds(request, output)


def main(arguments: Sequence[str] | None = None) -> None:
    """Runs a command line (``None``: the process' own) and exits with its code."""
    started = time.monotonic() - (machine.seconds_since_start() if arguments is None else 0.0)
    try:
        code = app(args=arguments, prog_name="kreludomain", standalone_mode=False, obj=started)
    except InputError as error:
        sys.exit(_failed(str(error)))
    except typer.TyperException as error:  # an argument or option that is missing, unknown or ill-typed
        sys.exit(_failed(error.format_message()))
    except OSError as error:
        named = [str(part) for part in (error.filename, error.strerror) if part]
        sys.exit(_failed(": ".join(named) or str(error)))
    sys.exit(code or 0)


def program() -> None:
    """:func:`main` as a process of its own: where seconds count, it is gone at once."""
    try:
        main()
    except SystemExit as end:
        # What there is is on the disk, and taking torch apart would take a second.
        if isinstance(end.code, int) and (end.code == INTERRUPTED or sys.argv[1:2] == ["verify"]):
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(end.code)
        raise


def _failed(text: str) -> int:
    errors().print(f"error: {' '.join(text.splitlines())}", soft_wrap=True)
    return 2


if __name__ == "__main__":
    program()
