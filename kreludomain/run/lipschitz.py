"""``kreludomain lipschitz``: Lipschitz constants as brackets, and the robust radii that follow from them."""

from __future__ import annotations

from pathlib import Path

import typer

from kreludomain.run import lipschitz_tables as tables
from kreludomain.run.config.files import load_config
from kreludomain.run.engine.folder import CONFIG, ROWS, Folder, versions
from kreludomain.run.engine.session import Session
from kreludomain.run.lipschitz_config import LipschitzConfig
from kreludomain.run.lipschitz_measure import Plan, prepare
from kreludomain.run.lipschitz_rows import ALL, ArchitectureRow, Report, Row
from kreludomain.run.output.screen import errors, progress, screen

#: What only these runs write: an earlier run's are removed when a folder is used again.
WRITTEN = ("networks.csv", "samples.csv", "architectures.*", "lipschitz.png", "lipschitz.svg")


def lipschitz(path: Path, output: Path | None, overwrite: bool) -> None:
    """Runs a configuration: rows, tables and a plot into the output folder, tables on the screen."""
    from kreludomain.run.lipschitz_plots import save_plots  # matplotlib: imports for a second, and only here

    with Session() as session:
        file = load_config(path, LipschitzConfig)
        target = file.output(output)
        Folder.check(target, overwrite)  # before anything that takes time
        plan = prepare(file)
        folder = session.open(target, overwrite, WRITTEN)
        folder.write(CONFIG, file.resolved(target, versions()))
        report = _measured(plan, folder)
        files = tables.csv_files(report)
        for name, text in files.items():
            folder.write(name, text)
        figures = save_plots(folder.path, report)
    console = screen()
    for table in tables.screen_tables(report):
        console.print(table)
    console.print(f"{', '.join([ROWS, *files, *figures])} are in {folder.path}", soft_wrap=True)
    if report.violations:
        errors().print(f"bounds contradict each other, which is a bug: {'; '.join(report.violations)}", soft_wrap=True)
        raise typer.Exit(1)


def _measured(plan: Plan, folder: Folder) -> Report:
    rows: list[Row] = []
    with progress() as bar:
        task = bar.add_task("", total=plan.size)
        for row in plan.rows(lambda text: bar.update(task, description=text)):
            rows.append(row)
            folder.append(row)
            bar.update(task, advance=0 if isinstance(row, ArchitectureRow) and row.layer != ALL else 1)
    return Report.of(rows)
