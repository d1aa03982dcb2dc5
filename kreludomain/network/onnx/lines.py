"""The lines of Python that the nodes of an ONNX model come from, as torch's exporter and ``from_torch`` note them."""

from __future__ import annotations

import re
from pathlib import PurePath

import onnx

#: The entry of a node's metadata: the lines that called it as in a traceback, innermost last.
STACK_TRACE = "pkg.torch.onnx.stack_trace"

_FRAME = re.compile(r'File "(?P<file>[^"\n]*)", line (?P<number>\d+), in .*\n\s*(?P<code>.*)')
#: The longest code that is shown whole.
_LONGEST = 80


def shown_line(file: str, number: int | str, code: str) -> str:
    """A line for a message: the file's name, the number, the code."""
    code = code if len(code) <= _LONGEST else code[: _LONGEST - 3] + "..."
    return f'{PurePath(file).name} line {number}: "{code}"'


def line_of(node: onnx.NodeProto) -> str:
    """The innermost line of a node that is not torch's own; empty where none is noted."""
    trace = next((entry.value for entry in node.metadata_props if entry.key == STACK_TRACE), "")
    lines = [found.groups() for found in _FRAME.finditer(trace) if "/torch/nn/" not in found["file"].replace("\\", "/")]
    return shown_line(*lines[-1]) if lines else ""
