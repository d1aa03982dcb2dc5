"""``kreludomain certify`` and ``kreludomain compare``: a configuration in, a folder of results and tables out."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import typer

from kreludomain.run import tables
from kreludomain.run.config import Config, ConfigFile, load_config
from kreludomain.run.results import CONFIG, ROWS, Folder, versions
from kreludomain.run.runner import Outcome, Run, prepare
from kreludomain.run.screen import errors, progress, screen
from kreludomain.run.summary import Summary, joint_gains, summarise
from kreludomain.verify import Verdict

#: Verdicts that the progress bar counts.
COUNTED = (Verdict.VERIFIED, Verdict.FALSIFIED, Verdict.UNKNOWN)


def certify(path: Path, output: Path | None, overwrite: bool) -> None:
    """Runs a configuration; the rows go to the output folder, a summary to the screen."""
    _run(_load, path, output, overwrite)


def compare(path: Path, output: Path | None, overwrite: bool) -> None:
    """:func:`certify`, and margins, widths and seconds side by side: on the screen, as CSV files and as a plot."""
    from kreludomain.run.plots import save_comparison  # matplotlib: imports for a second, and only here

    folder, outcomes, summaries = _run(_load_tight, path, output, overwrite)
    rows, methods = [outcome.row for outcome in outcomes], [s.method for s in summaries]
    folder.write("comparison.csv", tables.comparison_csv(summaries))
    folder.write("margins.csv", tables.margins_csv(rows))
    folder.write("widths.csv", tables.widths_csv(summaries))
    save_comparison(folder.path, summaries, rows)
    console = screen()
    console.print(tables.margins_table(rows, methods))
    console.print(tables.widths_table(summaries))
    files = "comparison.csv, margins.csv, widths.csv, comparison.png and comparison.svg"
    console.print(f"{files} are in {folder.path}", soft_wrap=True)


def _load(path: Path) -> ConfigFile[Config]:
    return load_config(path, Config)


def _load_tight(path: Path) -> ConfigFile[Config]:
    """A configuration with margins that can be compared: each method's best, not the first that is positive."""
    file = _load(path)
    return replace(file, config=file.config.model_copy(update={"tight": True}))


def _run(
    load: Callable[[Path], ConfigFile[Config]], path: Path, output: Path | None, overwrite: bool
) -> tuple[Folder, list[Outcome], list[Summary]]:
    folder = None
    try:
        file = load(path)
        target = file.output(output)
        Folder.check(target, overwrite)  # before anything that takes time
        run = prepare(file)
        folder = Folder(target, overwrite)
        folder.write(CONFIG, file.resolved(target, versions()))
        outcomes = _outcomes(run, folder)
    except KeyboardInterrupt:
        saved = "nothing is saved" if folder is None else f"{folder.count} rows are in {folder.path / ROWS}"
        errors().print(f"stopped: {saved}", soft_wrap=True)
        raise typer.Exit(130) from None
    summaries = summarise(run.config.methods, outcomes)
    console = screen()
    console.print(tables.summary_table(summaries, run.config.tight))
    gains = joint_gains(run.config.methods, [outcome.row for outcome in outcomes])
    if gains is not None:
        console.print(gains, soft_wrap=True)
    console.print(f"{len(run.samples)} samples, {folder.count} rows in {folder.path / ROWS}", soft_wrap=True)
    return folder, outcomes, summaries


def _outcomes(run: Run, folder: Folder) -> list[Outcome]:
    outcomes, counts = [], Counter[Verdict]()
    with progress() as bar:
        task = bar.add_task("", total=run.size)
        for outcome in run.outcomes(folder):
            outcomes.append(outcome)
            counts[outcome.row.verdict] += 1
            bar.update(task, advance=1, description=", ".join(f"{counts[v]} {v.value}" for v in COUNTED))
    return outcomes
