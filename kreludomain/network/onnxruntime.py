"""The network as others run it: onnxruntime, in the file's own type. Loading is checked against it, counterexamples
replay on it."""

from __future__ import annotations

import dataclasses
import math

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.graph import Network
from kreludomain.network.onnx.model import OnnxModel, first_line
from kreludomain.network.onnx.precision import in_float32
from kreludomain.network.onnx.writer import to_onnx

#: How far onnxruntime may be from our float64: this many times as far as our own float32, plus this relative error.
FACTOR, RELATIVE = 50.0, 1e-5

#: What onnxruntime says of an operator that it does not have in a type.
_NO_KERNEL = "NOT_IMPLEMENTED"
_TYPES = {"tensor(float)": torch.float32, "tensor(double)": torch.float64}


class Runtime:
    """An onnxruntime session on the ONNX model a network was read from, or on :func:`to_onnx` if there is none.

    ``dtype`` is the type of the inputs, float32 or float64: in it the file computes, and counterexamples are replayed.
    ``whole``: with what the model has after the logits, if the network is read up to them; ``is_cut``: without.

    Of a difference of two networks, both are run, and their outputs subtracted in float64: which is exact, but for
    outputs of float64. ``dtype`` is then float32, unless both compute in float64.
    """

    dtype: torch.dtype
    is_cut: bool

    def __init__(self, network: Network, whole: bool = False) -> None:
        self._nodes, self._model, self._others = network.nodes, network.model, dict[Network, Runtime]()
        self._out_shape = network.output.shape
        self._terms = tuple(Runtime(term, whole) for term in network.terms or ())
        if self._terms:
            float64 = all(term.dtype == torch.float64 for term in self._terms)
            self.dtype = torch.float64 if float64 else torch.float32
            self.is_cut = any(term.is_cut for term in self._terms)
            return
        model = network.model if network.model is not None else OnnxModel(to_onnx(network))
        self.is_cut = bool(model.passed) and not whole
        self._session, self._weights = session(dataclasses.replace(model, passed=()) if whole else model)
        declared = self._session.get_inputs()[0]
        self.dtype = _TYPES.get(declared.type, torch.float32)
        self._input = declared.name
        self._shape = [size if isinstance(size, int) and size > 0 else 1 for size in declared.shape]
        self._repeats = math.prod(self._shape) // math.prod(network.input.shape)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs ``(N, *output_shape)`` of inputs ``(N, *input_shape)``, one after the other.

        Where the file fixes a batch of several, it is the same input several times.
        """
        if self._terms:
            first, second = (term(x.detach().cpu().to(self.dtype)).double() for term in self._terms)
            return first.reshape(-1, *self._out_shape) - second.reshape(-1, *self._out_shape)
        rows = x.detach().cpu().to(self.dtype).numpy()
        return torch.from_numpy(np.stack([self.batch(np.repeat(row[None], self._repeats, 0))[0] for row in rows]))

    def ending_as(self, network: Network) -> Runtime:
        """The runtime of this one's network, or of one that differs from it in what its model passes on; made once."""
        if network.nodes is self._nodes or (network.model is not None and network.model is self._model):
            return self
        if network not in self._others:
            self._others[network] = Runtime(network)
        return self._others[network]

    @property
    def batch_size(self) -> int:
        """How many inputs the file takes at a time."""
        return self._repeats

    def batch(self, rows: np.ndarray) -> np.ndarray:
        """Outputs ``(batch_size, *output_shape)`` of ``batch_size`` inputs at once."""
        given = rows.reshape(self._shape)
        output = _run(self._session, {self._input: given})
        shape = output.shape
        if self._repeats * math.prod(self._out_shape) != output.size or not _same(
            shape, self._out_shape, self._repeats
        ):
            raise InputError(f"outputs are of shape {shape} in onnxruntime, and were read as {self._out_shape}")
        return output.reshape(self._repeats, *self._out_shape)


def _same(shape: tuple[int, ...], read: tuple[int, ...], repeats: int) -> bool:
    """Whether two shapes are the same but for axes of one entry, and the batch."""
    without_batch = shape if repeats == 1 else shape[1:]
    return [n for n in without_batch if n != 1] == [n for n in read if n != 1]


def session(model: OnnxModel) -> tuple[onnxruntime.InferenceSession, list[onnxruntime.OrtValue]]:
    """A session on a model, and its weights, which have to live as long; in float32 where onnxruntime does not have its
    operators in double.

    Raises :class:`InputError`, one line.
    """
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 4
    weights = [onnxruntime.OrtValue.ortvalue_from_numpy(value) for value in model.weights.values()]
    try:
        if weights:
            options.add_external_initializers(list(model.weights), weights)
        return onnxruntime.InferenceSession(model.runnable(), options, providers=["CPUExecutionProvider"]), weights
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        single = in_float32(model)
        if _NO_KERNEL in str(error) and single.graph != model.graph:
            return session(single)
        raise InputError(f"onnxruntime cannot run the network: {first_line(error)}") from None


def returned(model: OnnxModel, x: Tensor) -> Tensor:
    """What a whole model returns, its last Softmax or ArgMax too: ``(N, m)``, float64, for inputs ``(N, ...)``."""
    made, _weights = session(model)
    declared = made.get_inputs()[0]
    rows = x.detach().cpu().to(_TYPES.get(declared.type, torch.float32)).numpy()
    outputs = [_run(made, {declared.name: row.reshape(declared.shape)}) for row in rows]
    return torch.from_numpy(np.stack([output.reshape(-1) for output in outputs])).double()


def _run(made: onnxruntime.InferenceSession, inputs: dict[str, np.ndarray]) -> np.ndarray:
    try:
        found: np.ndarray = made.run(None, inputs)[0]
    except Exception as error:  # onnxruntime's exceptions have no common base of their own
        raise InputError(f"onnxruntime cannot run the network: {first_line(error)}") from None
    return found


def check_against_runtime(network: Network, source: str, samples: int = 4, seed: int = 0) -> None:
    """Raises :class:`InputError` unless the network agrees with onnxruntime on random inputs.

    Inputs are uniform in [0, 1] and normal. The difference allowed is a multiple of the rounding of float32 in the
    network's own outputs: a fixed share of the largest value on the way would hide errors behind one large intermediate
    value. A batch that the file fixes is filled with different inputs.
    """
    try:
        runtime = Runtime(network)
        count = runtime.batch_size * max(1, samples // runtime.batch_size)
        generator = torch.Generator().manual_seed(seed)
        shape = (count, *network.input.shape)
        uniform = torch.rand(shape, generator=generator, dtype=torch.float32)
        normal = torch.randn(shape, generator=generator, dtype=torch.float32)
        x = torch.cat([uniform, normal])
        batches = x.to(runtime.dtype).split(runtime.batch_size)
        theirs = torch.cat([torch.from_numpy(runtime.batch(rows.numpy())) for rows in batches]).double()
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    ours = network.to(device="cpu", dtype=torch.float64)(x.double())
    rough = network.to(device="cpu", dtype=torch.float32)(x).double()
    allowed = FACTOR * (ours - rough).abs() + RELATIVE * ours.abs().clamp(min=1.0)
    difference = float((ours - theirs).abs().max())
    if theirs.shape != ours.shape or not bool(((ours - theirs).abs() <= allowed.amax()).all()):
        raise InputError(f"{source}: outputs differ from onnxruntime's by {difference:.3g} on random inputs")
