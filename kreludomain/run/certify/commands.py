"""``kreludomain certify`` and ``kreludomain compare``: a configuration in, a folder of results and tables out."""

from __future__ import annotations

import dataclasses
import logging
import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from kreludomain.errors import InputError
from kreludomain.run.certify import tables
from kreludomain.run.certify.config import Config
from kreludomain.run.certify.rows import Row
from kreludomain.run.certify.summary import Summary, in_order, joint_gains, summarise
from kreludomain.run.config.files import ConfigFile, load_config
from kreludomain.run.engine import machine
from kreludomain.run.engine.cluster import ray_pool
from kreludomain.run.engine.folder import CONFIG, RECORD, ROWS, Folder, json_line, versions
from kreludomain.run.engine.pool import Pool, local_pool
from kreludomain.run.engine.progress import Mode, log_to, watched
from kreludomain.run.engine.record import Record
from kreludomain.run.engine.runner import Run, Work, prepare
from kreludomain.run.engine.session import Session
from kreludomain.run.engine.worker import warm_up
from kreludomain.run.output.screen import screen

LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Options:
    """What a command line says besides the configuration; ``None``: what the configuration says, or the default."""

    output: Path | None = None
    overwrite: bool = False
    resume: bool = False
    workers: int | None = None
    threads: int | None = None
    cluster: str | None = None
    mode: Mode = Mode.NORMAL
    log_level: str | None = None
    log_file: Path | None = None


@dataclass(frozen=True)
class Finished:
    """A run that is complete: its rows in the order of samples and methods."""

    folder: Path
    run: Run
    rows: Sequence[Row]
    summaries: Sequence[Summary]


def certify(path: Path, options: Options = Options()) -> None:
    """Runs a configuration; the rows go to the output folder, a summary to the screen."""
    _run("certify", path, options)


def compare(path: Path, options: Options = Options()) -> None:
    """:func:`certify`, and margins, widths and seconds side by side: on the screen, as CSV files and as a plot.

    Margins are made to be compared: each method's best, not the first that is positive.
    """
    from kreludomain.run.certify.plots import save_comparison  # matplotlib: imports for a second, and only here

    done = _run("compare", path, options, {"tight": True})
    for name, text in tables.csv_files(done.summaries, done.rows).items():
        (done.folder / name).write_text(text, encoding="utf-8")
    save_comparison(done.folder, done.summaries, done.rows)
    if options.mode == Mode.NORMAL:
        console = screen()
        console.print(tables.margins_table(done.rows, [s.method for s in done.summaries]))
        console.print(tables.widths_table(done.summaries))
        files = "comparison.csv, margins.csv, widths.csv, comparison.png and comparison.svg"
        console.print(f"{files} are in {done.folder}", soft_wrap=True)


def _run(command: str, path: Path, options: Options, changes: Mapping[str, Any] | None = None) -> Finished:
    if options.overwrite and options.resume:
        raise InputError("--overwrite and --resume: give one of them, not both")
    log_to(options.log_level or ("error" if options.mode == Mode.QUIET else "warning"), options.log_file)
    with Session(f"go on with: kreludomain {command} {_again(path, options)} --resume") as session:
        file = _load(path, options, changes or {})
        target = file.output(options.output)
        Folder.check(target, options.overwrite, options.resume)  # before anything that takes time
        if file.config.cluster is None:
            warm_up()
        run = prepare(file)
        folder = session.open(target, options.overwrite, resume=options.resume)
        work = _begun(run, file, folder, options.resume)
        _finish(run, work, options.mode)
    rows = in_order(work.rows, run.config.methods)
    done = Finished(target, run, rows, summarise(run.config.methods, rows))
    _say(done, options.mode)
    return done


def _load(path: Path, options: Options, changes: Mapping[str, Any]) -> ConfigFile[Config]:
    file = load_config(path, Config)
    given = {"workers": options.workers, "threads": options.threads, "cluster": options.cluster}
    update = {**changes, **{key: value for key, value in given.items() if value is not None}}
    return replace(file, config=file.config.model_copy(update=update))


def _begun(run: Run, file: ConfigFile[Config], folder: Folder, resume: bool) -> Work:
    """What there is to do: everything, or what an earlier run of the same has left."""
    now = Record.of(run.config, run.network, run.samples)
    if resume and (folder.path / ROWS).exists():
        now.check_resumes(Record.read(folder.path), folder.path)
        return Work(run, folder, map(Row.read, folder.resumed()))
    folder.write(CONFIG, file.resolved(folder.path, versions()))
    folder.write(RECORD, now.text())
    return Work(run, folder)


def _finish(run: Run, work: Work, mode: Mode) -> None:
    with _pool(run, work.missing) as pool, watched(mode, work, pool.size) as watch:
        LOG.info("%d of %d rows to do, %d workers", work.missing, run.size, pool.size)
        for row in work.outcomes(pool):
            watch(row)


def _pool(run: Run, missing: int) -> Pool:
    config, decider = run.config, run.decider()
    if config.cluster == "ray":
        return ray_pool(decider, config.workers, config.threads or 1, missing)
    cores, free_mb = machine.cores(), machine.free_mb()
    share = machine.share(run.size, config.workers, config.threads, config.memory_mb, cores, free_mb)
    return local_pool(decider, max(1, min(share.workers, missing)), share.threads)


def _say(done: Finished, mode: Mode) -> None:
    if mode == Mode.JSON:
        methods = [dataclasses.asdict(summary) for summary in done.summaries]
        counts = {"samples": len(done.run.samples), "rows": len(done.rows)}
        print(json_line({"summary": {"folder": str(done.folder), **counts, "methods": methods}}))
        return
    console = screen()
    if mode == Mode.NORMAL:
        console.print(tables.summary_table(done.summaries, done.run.config.tight))
        gains = joint_gains(done.run.config.methods, done.rows)
        if gains is not None:
            console.print(gains, soft_wrap=True)
    samples, rows = len(done.run.samples), len(done.rows)
    console.print(f"{samples} samples, {rows} rows in {done.folder / ROWS}", soft_wrap=True)


def _again(path: Path, options: Options) -> str:
    """The command's arguments that say which run it is."""
    output = [] if options.output is None else ["--output", str(options.output)]
    return shlex.join([str(path), *output])
