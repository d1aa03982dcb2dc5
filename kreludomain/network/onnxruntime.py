"""The network as others run it: onnxruntime in float32. Loading is checked against it, counterexamples replay on it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.graph import Network
from kreludomain.network.onnx.writer import to_onnx

#: How far onnxruntime may be from our float64: this many times as far as our own float32, plus this relative error.
FACTOR, RELATIVE = 50.0, 1e-5


class Runtime:
    """An onnxruntime session on the ONNX bytes a network was read from, or on :func:`to_onnx` if it came from torch."""

    #: The type of inputs and outputs.
    dtype: torch.dtype = torch.float32

    def __init__(self, network: Network) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        model = network.model if network.model is not None else to_onnx(network)
        try:
            self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise InputError(f"onnxruntime cannot run the network: {str(error).splitlines()[0]}") from None
        declared = self._session.get_inputs()[0]
        self._input = declared.name
        self._shape = [size if isinstance(size, int) and size > 0 else 1 for size in declared.shape]
        self._out_shape = network.output.shape

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs ``(N, *output_shape)``, float32, of inputs ``(N, *input_shape)``, one after the other."""
        rows = x.detach().cpu().numpy().astype(np.float32)
        try:
            outputs = [self._session.run(None, {self._input: row.reshape(self._shape)})[0] for row in rows]
        except Exception as error:  # onnxruntime's exceptions have no common base of their own
            raise InputError(f"onnxruntime cannot run the network: {str(error).splitlines()[0]}") from None
        shape = outputs[0].shape
        if [n for n in shape if n != 1] != [n for n in self._out_shape if n != 1]:
            raise InputError(f"outputs are of shape {shape} in onnxruntime, and were read as {self._out_shape}")
        return torch.from_numpy(np.stack([output.reshape(self._out_shape) for output in outputs]))


def check_against_runtime(network: Network, source: str, samples: int = 4, seed: int = 0) -> None:
    """Raises :class:`InputError` unless the network agrees with onnxruntime on random inputs.

    Inputs are uniform in [0, 1] and normal. The difference allowed is a multiple of the rounding of float32 in the
    network's own outputs: a fixed share of the largest value on the way would hide errors behind one large intermediate
    value.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, *network.input.shape)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float32)
    normal = torch.randn(shape, generator=generator, dtype=torch.float32)
    x = torch.cat([uniform, normal])
    ours = network.to(device="cpu", dtype=torch.float64)(x.double())
    rough = network.to(device="cpu", dtype=torch.float32)(x).double()
    allowed = FACTOR * (ours - rough).abs() + RELATIVE * ours.abs().clamp(min=1.0)
    try:
        theirs = Runtime(network)(x).double()
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    difference = float((ours - theirs).abs().max())
    if theirs.shape != ours.shape or not bool(((ours - theirs).abs() <= allowed.amax()).all()):
        raise InputError(f"{source}: outputs differ from onnxruntime's by {difference:.3g} on random inputs")
