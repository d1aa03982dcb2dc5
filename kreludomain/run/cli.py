"""The command line. Wrong input is one line on stderr and exit code 2; the work is done elsewhere."""

from __future__ import annotations

import inspect
import os
import shlex
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

import kreludomain
from kreludomain.errors import InputError
from kreludomain.run.bounds import bounds
from kreludomain.run.engine import machine
from kreludomain.run.engine.folder import INTERRUPTED
from kreludomain.run.engine.runner import RunOptions, run_study
from kreludomain.run.engine.study import Study
from kreludomain.run.output.screen import errors, screen
from kreludomain.run.studies import STUDIES
from kreludomain.run.vnncomp.instance import verify


def command(study: type[Study[Any, Any, Any]]) -> Callable[..., None]:
    """The function of a study's command, as typer wants it: its parameters are its options."""
    own = inspect.signature(study.load, eval_str=True).parameters
    shared = dict(inspect.signature(RunOptions, eval_str=True).parameters)
    del shared["again"]  # made here of all the others

    def run(context: typer.Context, **given: Any) -> None:
        options = RunOptions(**{name: given[name] for name in shared}, again=_again(context, {*own, "output"}))
        run_study(study, options, **{name: given[name] for name in own})

    context = inspect.Parameter("context", inspect.Parameter.POSITIONAL_OR_KEYWORD, annotation=typer.Context)
    parameters = [context, *own.values(), *shared.values()]
    run.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    run.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    run.__name__, run.__doc__ = study.name, study.help
    return run


def _again(context: typer.Context, names: set[str]) -> str:
    """The command line that resumes a run: the parameters that say which run it is, and ``--resume``."""
    words = [context.info_name or ""]
    for parameter in context.command.params:
        source = context.get_parameter_source(parameter.name or "")
        if parameter.name not in names or source is None or source.name != "COMMANDLINE":
            continue
        value = context.params[parameter.name]
        flag = [parameter.opts[-1]] if parameter.param_type_name == "option" else []
        for each in value if isinstance(value, list | tuple) else [value]:
            words += [*flag, str(each)]
    return shlex.join(["kreludomain", *words, "--resume"])


app = typer.Typer(
    help="Certifies ReLU networks with joint relaxations of groups of neurons (k-ReLU).",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,
)


def _version(wanted: bool) -> None:
    if wanted:
        screen().print(f"kreludomain {kreludomain.__version__}")
        raise typer.Exit


@app.callback()
def _root(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Show it.")] = False,
) -> None:
    pass


for study in STUDIES:
    app.command(study.name)(command(study))


@app.command()
def report(
    runs: Annotated[list[Path], typer.Argument(metavar="RUN...", help="Folders of certify or compare.")],
    output: Annotated[Path | None, typer.Option(metavar="DIR", help="Where to, instead of the first RUN.")] = None,
) -> None:
    """Write one HTML page about runs, which needs no network to be read, and its tables as CSV files."""
    from kreludomain.run.report.page import report as write_report  # matplotlib: imports for a second, and only here

    write_report(runs, output)


app.command("verify")(verify)
app.command("bounds")(bounds)


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
        # Everything is on the disk, and the interpreter would take a second to take torch apart.
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
