"""What there is before the first bound: the import, and a network from its file."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from typing import Any

import pytest
from conftest import NETS

import kreludomain as kd


@pytest.mark.parametrize("module", ["kreludomain", "kreludomain.run.cli"])
def test_import(benchmark: Any, module: str) -> None:
    """A process that imports the module and ends."""
    benchmark.pedantic(_imported, (module,), rounds=5, warmup_rounds=1)


def _imported(module: str) -> None:
    subprocess.run([sys.executable, "-c", f"import {module}"], check=True)


@pytest.mark.parametrize("name", ["digits_dense", "digits_conv", "digits_residual"])
def test_load(benchmark: Callable[..., Any], name: str) -> None:
    benchmark(kd.load, NETS / f"{name}.onnx")
