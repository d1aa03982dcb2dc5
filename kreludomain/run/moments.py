"""``kreludomain moments``: a configuration in; moments next to Monte Carlo, and Gaussian attacks, out."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from kreludomain.run.config.files import load_config
from kreludomain.run.engine.folder import CONFIG, ROWS, Folder, versions
from kreludomain.run.engine.session import Session
from kreludomain.run.moments_config import MomentsConfig
from kreludomain.run.moments_study import Attacked, AttackRow, MomentRow, Portrait, Study, prepare
from kreludomain.run.moments_tables import attacks_csv, attacks_table, cheap_line, error_table, moments_csv
from kreludomain.run.output.screen import progress, screen

#: What a run writes besides what every run writes: removed, and nothing else, when a folder is used again.
WRITTEN = ("moments.csv", "attacks.csv", "errors.*", "displacements.*", "outputs.*", "attacks.*", "attacks/*.npz")

#: The tables: field, rule, title, and the field with what Monte Carlo's own error makes of it.
TABLES = (
    (
        "mean",
        "exact",
        "error of the mean, in standard deviations of the output (median of samples)",
        "mean_sampling_error",
    ),
    ("covariance", "exact", "relative error of the covariance, exact rule", "covariance_sampling_error"),
    ("covariance", "cheap", "relative error of the covariance, cheap rule", None),
    (
        "max_z_score",
        "exact",
        "largest difference of any entry of mean and covariance, in Monte Carlo's standard errors",
        None,
    ),
)


def moments(path: Path, output: Path | None, overwrite: bool) -> None:
    """Runs a configuration: rows, tables and figures go to the output folder, the tables also to the screen."""
    with Session() as session:
        file = load_config(path, MomentsConfig)
        target = file.output(output)
        Folder.check(target, overwrite)  # before anything that takes time
        study = prepare(file)
        folder = session.open(target, overwrite, WRITTEN)
        folder.write(CONFIG, file.resolved(target, versions()))
        _work(study, folder)
    screen().print(f"{folder.count} rows in {folder.path / ROWS}; tables and figures beside it", soft_wrap=True)


def _work(study: Study, folder: Folder) -> None:
    rows: list[MomentRow] = []
    portraits: list[Portrait] = []
    tried: list[AttackRow] = []
    attacked: list[Attacked] = []
    with progress() as bar:
        task = bar.add_task("moments", total=study.size)
        for found, portrait in study.moments():
            for row in found:
                folder.append(row)
            rows += found
            portraits.append(portrait)
            bar.update(task, advance=1)
        bar.update(task, description="attacks")
        for outcome in study.attacks():
            if isinstance(outcome, Attacked):
                attacked.append(outcome)
                _keep(outcome, folder)
            tried.append(outcome.row if isinstance(outcome, Attacked) else outcome)
            folder.append(tried[-1])
            bar.update(task, advance=1)
    if rows:
        _report_moments(rows, portraits, folder)
    if tried:
        _report_attacks(tried, attacked, study, folder)


def _report_moments(rows: list[MomentRow], portraits: list[Portrait], folder: Folder) -> None:
    from kreludomain.run.moments_plots import save_errors, save_outputs  # matplotlib: imports for a second

    folder.write("moments.csv", moments_csv(rows))
    console = screen()
    for field, rule, title, chance in TABLES:
        console.print(title, soft_wrap=True)
        console.print(error_table(rows, field, rule, chance))
    cheap = cheap_line(rows)
    if cheap is not None:
        console.print(cheap, soft_wrap=True)
    save_errors(folder.path, rows)
    save_outputs(folder.path, portraits[len({portrait.noise for portrait in portraits}) - 1])  # largest of the first


def _report_attacks(rows: list[AttackRow], attacked: list[Attacked], study: Study, folder: Folder) -> None:
    from kreludomain.run.moments_plots import save_attacks

    folder.write("attacks.csv", attacks_csv(rows))
    screen().print(attacks_table(rows))
    if attacked:
        save_attacks(folder.path, attacked, study.shape)


def _keep(found: Attacked, folder: Folder) -> None:
    """Saves an attack's image, the mean of its noise and the factor of its covariance."""
    attacks = folder.path / "attacks"
    attacks.mkdir(exist_ok=True)
    noise = found.attack.noise
    name = re.sub(r"[^A-Za-z0-9]+", "_", found.row.attack)
    path = attacks / f"{found.row.index}_{name}.npz"
    np.savez(path, image=found.sample.x.numpy(), mean=noise.mean.numpy(), factor=noise.factor.numpy())
