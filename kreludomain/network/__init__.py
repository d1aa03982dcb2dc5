"""Networks: a graph of operators, readers for ONNX files and torch modules, a writer, and the check by onnxruntime."""

from __future__ import annotations

import warnings
from pathlib import Path

from kreludomain.network.channels import channels_first
from kreludomain.network.differences import difference
from kreludomain.network.graph import Network, Node
from kreludomain.network.head import Head
from kreludomain.network.joined import with_input
from kreludomain.network.onnx.model import OnnxModel
from kreludomain.network.onnx.reader import parse_onnx, read_onnx
from kreludomain.network.onnx.writer import to_onnx
from kreludomain.network.onnxruntime import Runtime, check_against_runtime
from kreludomain.network.sigmoids import SigmoidEnd
from kreludomain.network.torch import from_torch

__all__ = [
    "Head",
    "Network",
    "Node",
    "OnnxModel",
    "Runtime",
    "SigmoidEnd",
    "channels_first",
    "check_against_runtime",
    "difference",
    "from_torch",
    "load",
    "parse_onnx",
    "read_onnx",
    "to_onnx",
    "with_input",
]


def load(path: str | Path, output: str | None = None, announce: bool = True) -> Network:
    """Reads an ONNX file as a float64 network and compares it with onnxruntime on random inputs.

    ``output`` is the name of the output that is meant, where the file has several. A last Softmax, LogSoftmax or ArgMax
    is left out: the network ends at its logits, ``network.head`` says so, and so does a warning if ``announce``.

    Raises :class:`~kreludomain.errors.InputError` for a missing or malformed file, an operator that is not supported
    (named, with its node), several outputs (listed), weights that are not finite, or outputs that differ from
    onnxruntime's.
    """
    network = read_onnx(path, output)
    check_against_runtime(network, str(path))
    for note in network.notes if announce else ():
        warnings.warn(f"{path}: {note}", stacklevel=2)
    return network
