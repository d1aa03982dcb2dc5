"""A counterexample as others can check it."""

from __future__ import annotations

import numpy as np
from torch import Tensor

from kreludomain.network import Runtime


def counterexample_text(x: Tensor, runtime: Runtime) -> str:
    """A counterexample ``(1, *input_shape)``, float32, as VNN-COMP wants it (rules of 2022 to 2024).

    The line ``sat``, then within one pair of parentheses a line ``(X_i value)`` an input and ``(Y_j value)`` an output,
    in the order of the flattened tensors. ``runtime`` runs the network as it was read; its outputs are the values of
    ``Y``. Every value has the digits that give the same float32 again.
    """
    lines = [
        f"({kind}_{entry} {np.format_float_scientific(value, trim='0')})"
        for kind, tensor in (("X", x), ("Y", runtime(x)))
        for entry, value in enumerate(tensor.detach().cpu().flatten().numpy().astype(np.float32))
    ]
    return "sat\n(" + "\n".join(lines) + ")\n"
