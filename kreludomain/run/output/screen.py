"""Where text goes: results to stdout, errors and progress to stderr. Text is shown as it is, brackets included."""

from __future__ import annotations

import sys

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

#: Columns of text that goes into a file or a pipe, where nothing says how wide it may be.
WIDTH = 160


def screen(mute: bool = False) -> Console:
    """The console of stdout; ``mute``: nothing is printed."""
    width = None if sys.stdout.isatty() else WIDTH
    return Console(markup=False, emoji=False, highlight=False, quiet=mute, width=width)


def errors() -> Console:
    """The console of stderr."""
    return Console(stderr=True, markup=False, emoji=False, highlight=False)


def progress(enabled: bool) -> Progress:
    """A bar with a description, seen on a terminal only."""
    console = errors()
    return Progress(
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("{task.description}", markup=False),
        console=console,
        disable=not (enabled and console.is_terminal),
        transient=True,
    )
