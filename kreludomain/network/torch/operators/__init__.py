"""How each operation of torch is written in ONNX: one table, one entry an operation.

An entry takes the graph and the step and returns the name of the result, or of several in order.
"""

from __future__ import annotations

from kreludomain.network.onnx.operators import refusal
from kreludomain.network.torch.operators.activation import ACTIVATIONS
from kreludomain.network.torch.operators.arithmetic import ARITHMETIC
from kreludomain.network.torch.operators.base import Writer
from kreludomain.network.torch.operators.comparison import COMPARISONS
from kreludomain.network.torch.operators.image import IMAGES
from kreludomain.network.torch.operators.layout import LAYOUT
from kreludomain.network.torch.operators.linear import LINEAR

OPERATIONS: dict[str, Writer] = {**ACTIVATIONS, **ARITHMETIC, **COMPARISONS, **IMAGES, **LAYOUT, **LINEAR}

#: Operations that are refused for the same reason as an operator of ONNX.
_LIKE = {
    "native_layer_norm": "LayerNormalization",
    "native_group_norm": "GroupNormalization",
    "mkldnn_rnn_layer": "LSTM",
    "_thnn_fused_lstm_cell": "LSTM",
    "_thnn_fused_gru_cell": "GRU",
    "_transformer_encoder_layer_fwd": "MultiHeadAttention",
    "_native_multi_head_attention": "MultiHeadAttention",
    "_scaled_dot_product_flash_attention_for_cpu": "Attention",
    "_scaled_dot_product_attention_math": "Attention",
    "glu": "LSTM",
    "_safe_softmax": "Softmax",
    "logsumexp": "ReduceLogSumExp",
    "std": "ReduceSumSquare",
    "var": "ReduceSumSquare",
    "var_mean": "ReduceSumSquare",
    "dist": "ReduceL2",
    "prod": "ReduceProd",
    "rsqrt": "Sqrt",
    "expm1": "Exp",
    "log1p": "Log",
    "log2": "Log",
    "log10": "Log",
    "tan": "Tan",
    "atan": "Atan",
    "remainder": "Mod",
    "fmod": "Mod",
    "hardshrink": "Shrink",
    "topk": "TopK",
    "sort": "TopK",
    "kthvalue": "TopK",
    "median": "TopK",
}


def unsupported(name: str) -> str:
    """One line on an operation that has no entry."""
    if name in _LIKE:
        return refusal(_LIKE[name])
    return (
        f"the operation '{name}' of torch is not supported; supported are affine operations, those made of ReLUs, "
        "such as maxima, and activations such as Sigmoid"
    )


__all__ = ["OPERATIONS", "unsupported"]
