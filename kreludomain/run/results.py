"""The folder of a run: ``config.yaml``, a row of ``results.jsonl`` a sample and method, counterexamples."""

from __future__ import annotations

import dataclasses
import json
import math
import platform
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

import kreludomain
from kreludomain.errors import InputError
from kreludomain.verify import Verdict

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

ROWS, CONFIG, COUNTEREXAMPLES = "results.jsonl", "config.yaml", "counterexamples"

#: What runs write: removed, with what a command writes besides and nothing else, when a folder is used again.
WRITTEN = (ROWS, CONFIG, f"{COUNTEREXAMPLES}/*.npy", "comparison.*", "margins.csv", "widths.csv")


@dataclass(frozen=True)
class Row:
    """What a method found out about a sample. Numbers that are not finite are ``None``.

    ``method`` is its label, ``lower_bounds`` has one bound a row of the claim (``None`` where no method
    ran), ``reason`` says why it stopped, ``counterexample`` is a file in the folder.
    """

    index: int
    label: int
    predicted: int
    method: str
    verdict: Verdict = Verdict.UNKNOWN
    lower_bounds: tuple[float | None, ...] | None = None
    margin: float | None = None
    seconds: float = 0.0
    reason: str = ""
    notes: tuple[str, ...] = ()
    counterexample: str | None = None


def finite(values: Tensor) -> tuple[float | None, ...]:
    """The entries as numbers that JSON has, ``None`` for those that it has not."""
    return tuple(v if math.isfinite(v) else None for v in values.tolist())


def versions(**more: str) -> dict[str, str]:
    """The versions of what computes, for a run's configuration; ``more`` are those of a command's own solvers."""
    return {
        "kreludomain": kreludomain.__version__,
        **more,
        "torch": str(torch.__version__),
        "numpy": np.__version__,
        "python": platform.python_version(),
    }


class Folder:
    """Where a run writes; rows are on the disk as soon as they are appended."""

    def __init__(self, path: Path, overwrite: bool = False, besides: Iterable[str] = ()) -> None:
        """Makes the folder, without what an earlier run wrote. Raises what :meth:`check` raises.

        ``besides``: patterns of the files that this command writes and others do not.
        """
        self.check(path, overwrite)
        path.mkdir(parents=True, exist_ok=True)
        for old in (file for pattern in (*WRITTEN, *besides) for file in path.glob(pattern) if file.is_file()):
            old.unlink()
        self.path = path
        self.count = 0

    @staticmethod
    def check(path: Path, overwrite: bool) -> None:
        """Raises :class:`InputError` if a run cannot have the folder: a file, or results that are to stay."""
        if path.exists() and not path.is_dir():
            raise InputError(f"{path}: the output is a folder, this is a file")
        if (path / ROWS).exists() and not overwrite:
            raise InputError(f"{path / ROWS}: there are results already; use --overwrite or another --output")

    def write(self, name: str, text: str) -> None:
        (self.path / name).write_text(text, encoding="utf-8")

    def append(self, row: DataclassInstance | Mapping[str, Any]) -> None:
        """Adds a row, a dataclass or a mapping. Numbers that are not finite become ``None``: JSON has none of them."""
        values = row if isinstance(row, Mapping) else dataclasses.asdict(row)
        with (self.path / ROWS).open("a", encoding="utf-8") as file:
            file.write(json.dumps(_json(values), allow_nan=False) + "\n")
        self.count += 1

    def keep(self, counterexample: Tensor, index: int, method: str) -> str:
        """Saves a counterexample; returns its file's name in the folder."""
        name = f"{COUNTEREXAMPLES}/{index}_{re.sub(r'[^A-Za-z0-9.=-]+', '_', method)}.npy"
        (self.path / COUNTEREXAMPLES).mkdir(exist_ok=True)
        np.save(self.path / name, counterexample.cpu().numpy())
        return name


def _json(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_json(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
