"""The network as others run it: onnxruntime in float32. Loading is checked against it, counterexamples replay on it."""

from __future__ import annotations

import numpy as np
import onnxruntime
import torch
from torch import Tensor

from kreludomain.errors import InputError
from kreludomain.network.graph import Network
from kreludomain.network.onnx_writer import to_onnx

#: Largest accepted difference between float64 and onnxruntime's float32, relative to the largest value on the way.
TOLERANCE = 1e-4


class Runtime:
    """An onnxruntime session on the network's own ONNX bytes (or on what we write for it, if it came from torch)."""

    def __init__(self, network: Network) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.log_severity_level = 3
        model = network.model if network.model is not None else to_onnx(network)
        self._session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
        self._input = self._session.get_inputs()[0].name
        self._shape = (1, *network.input.shape)

    def __call__(self, x: Tensor) -> Tensor:
        """Outputs ``(N, *output_shape)``, float32, of inputs ``(N, *input_shape)``, one after the other."""
        rows = x.detach().cpu().numpy().astype(np.float32)
        outputs = [self._session.run(None, {self._input: row.reshape(self._shape)})[0][0] for row in rows]
        return torch.from_numpy(np.stack(outputs))


def check_against_runtime(network: Network, source: str, samples: int = 4, seed: int = 0) -> None:
    """Raises :class:`InputError` unless the network computes on random inputs what onnxruntime computes.

    Inputs are uniform in [0, 1] and normal; the difference allowed is float32's, relative to the largest magnitude that
    any node takes.
    """
    generator = torch.Generator().manual_seed(seed)
    shape = (samples, *network.input.shape)
    uniform = torch.rand(shape, generator=generator, dtype=torch.float32)
    normal = torch.randn(shape, generator=generator, dtype=torch.float32)
    x = torch.cat([uniform, normal])
    values = network.to(device="cpu").values(x.to(network.dtype))
    scale = max(float(value.abs().max()) for value in values.values())
    difference = float((values[network.output.name] - Runtime(network)(x).to(network.dtype)).abs().max())
    if not difference <= TOLERANCE * max(1.0, scale):
        raise InputError(f"{source}: outputs differ from onnxruntime's by {difference:.3g} on random inputs")
