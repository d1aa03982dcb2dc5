"""The study ``benchmark``: a list of instances, whose answers are held against those that the list expects."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from kreludomain.errors import InputError
from kreludomain.options import FilePath
from kreludomain.run.config.files import ConfigFile, RunKeys
from kreludomain.run.config.methods import MethodItem
from kreludomain.run.engine.folder import Folder, array_file, file_name
from kreludomain.run.engine.record import files_hash
from kreludomain.run.engine.study import Computed, Study, Task
from kreludomain.run.engine.worker import Failure
from kreludomain.run.vnncomp.instance import (
    FAILED,
    GRACE_S,
    WORDS,
    Device,
    Instance,
    MemoryMb,
    MethodName,
    MethodOptions,
    Strict,
    read_instances,
    solve,
    solver_method,
)
from kreludomain.run.vnncomp.rows import InstanceRow, families_table, results_csv

TABLE = "results.csv"

ListPath = Annotated[
    Path, typer.Argument(metavar="INSTANCES.csv", help="A list of ONNX files, VNN-LIB files and seconds.")
]
Filter = Annotated[str, typer.Option("--filter", metavar="TEXT", help="Only instances with this in family or files.")]
Timeout = Annotated[float | None, typer.Option(metavar="S", min=0, help="The most seconds of any instance.")]


class BenchmarkConfig(RunKeys):
    """A list of instances and how they are solved, as the command line says it.

    Only instances whose family, network or specification contains ``text``; none gets more than ``timeout_s``.
    """

    instances: FilePath
    text: str
    method: MethodItem
    strict: bool = False


@dataclass(frozen=True, kw_only=True, eq=False)
class InstanceTask(Task[InstanceRow]):
    """An instance that is to be decided."""

    instance: Instance


@dataclass(frozen=True, eq=False)
class Benchmark(Study[BenchmarkConfig, InstanceTask, InstanceRow]):
    """``kreludomain benchmark``."""

    name = "benchmark"
    help = "Solve a list of VNN-LIB instances, and hold the answers against those that the list expects."
    config_model = BenchmarkConfig
    row_type = InstanceRow
    files = (TABLE, "cactus.*", "counterexamples/*.npy")
    outcomes = ("unsat", "sat")

    config: BenchmarkConfig
    instances: tuple[Instance, ...]

    @classmethod
    def load(
        cls,
        instances: ListPath,
        text: Filter = "",
        timeout: Timeout = None,
        method: MethodName = "complete",
        option: MethodOptions = None,
        device: Device = None,
        strict: Strict = False,
        memory_mb: MemoryMb = None,
    ) -> ConfigFile[BenchmarkConfig]:
        config = BenchmarkConfig.model_construct(
            instances=str(instances),
            text=text,
            method=solver_method(method, option or [], device),
            strict=strict,
            timeout_s=timeout,
            grace_s=GRACE_S,
            memory_mb=memory_mb,
            output="runs/benchmark",
        )
        return ConfigFile(instances, config, base=Path())

    @classmethod
    def prepare(cls, file: ConfigFile[BenchmarkConfig]) -> Benchmark:
        config, most = file.config, file.config.timeout_s
        chosen = [
            instance if most is None else replace(instance, timeout_s=min(instance.timeout_s, most))
            for instance in read_instances(file.source)
            if config.text in f"{instance.family} {instance.network} {instance.specification}"
        ]
        if not chosen:
            raise InputError(f"--filter {config.text}: {file.source} has no instance with this text in it")
        return cls(config, tuple(chosen))

    def contents(self) -> Mapping[str, str]:
        return {
            "networks": files_hash(instance.paths[0] for instance in self.instances),
            "specifications": files_hash(instance.paths[1] for instance in self.instances),
            "time limits": " ".join(f"{instance.timeout_s:g}" for instance in self.instances),
        }

    def tasks(self) -> Sequence[InstanceTask]:
        return [
            InstanceTask(
                row=(row := _row(instance)),
                text=row.name,
                kind=instance.family,
                timeout_s=instance.timeout_s,
                instance=instance,
            )
            for instance in self.instances
        ]

    def compute(self, task: InstanceTask, needed: InstanceRow | None) -> Computed[InstanceRow]:
        start, instance = time.monotonic(), task.instance
        found = solve(self.config.method.method, self.config.strict, *instance.paths, instance.timeout_s)
        row = replace(task.row, result=found.word, stages=found.stages, reason=found.reason)
        row = replace(row, seconds=time.monotonic() - start)
        if found.counterexample is None:
            return Computed(row)
        name = file_name("counterexamples", (row.index, row.family), "npy")
        return Computed(replace(row, counterexample=name), {name: array_file(found.counterexample)})

    def failed(self, task: InstanceTask, failure: Failure) -> InstanceRow:
        result, reason = WORDS[FAILED[failure.kind]], failure.text(task.timeout_s)
        return replace(super().failed(task, failure), result=result, reason=reason)

    def line(self, row: InstanceRow) -> str | None:
        wrong = f"  WRONG: {row.expected} is expected" if row.wrong else ""
        return f"{row.result:<7}  {row.seconds:8.2f} s  {row.name}{wrong}"

    def report(self, folder: Folder, rows: Sequence[InstanceRow], console: Console) -> None:
        from kreludomain.run.vnncomp.plots import cactus  # matplotlib: imports for a second, and only here

        folder.write(TABLE, results_csv(rows))
        folder.write_all(cactus(rows))
        console.print(families_table(rows))

    def problems(self, folder: Folder, rows: Sequence[InstanceRow]) -> Sequence[str]:
        return [
            f"WRONG: {row.name}: {row.result}, but {row.expected} is expected"
            + (f"; counterexample: {folder.path / row.counterexample}" if row.counterexample else "")
            for row in rows
            if row.wrong
        ]


def _row(instance: Instance) -> InstanceRow:
    expected = "" if instance.expected is None else WORDS[instance.expected]
    return InstanceRow(instance.index, instance.family, instance.network, instance.specification, expected)
