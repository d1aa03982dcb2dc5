"""Why an ONNX operator is not read: one line, for the person whose network has it."""

from __future__ import annotations

_CURVED = "is neither affine nor made of ReLUs"
_NORM = "divides by a deviation or norm of its own input, which is not affine; batch normalisation is read"
_GATES = "multiplies values that depend on the input with each other (gates), which is not affine"
_JUMPS = "jumps where its input crosses a threshold: a network has to be continuous"
_DATA = "chooses entries by their values, and jumps where the choice changes"
_RANDOM = "is random"
_CONTROL = "is control flow that depends on the input"
_NUMBERS = "works on numbers that are not real"

_REASONS: dict[str, tuple[str, ...]] = {
    _CURVED: (
        *("Exp", "Log", "Sqrt", "Pow", "Reciprocal", "Sin", "Cos", "Tan", "Asin", "Acos", "Atan", "Sinh", "Cosh"),
        *("Asinh", "Acosh", "Atanh", "ReduceL2", "ReduceLogSum", "ReduceLogSumExp", "ReduceSumSquare", "ReduceProd"),
        *("Softmax", "LogSoftmax", "CumProd", "LpPool", "GlobalLpPool", "Det"),
    ),
    _NORM: (
        *("LayerNormalization", "InstanceNormalization", "GroupNormalization", "LpNormalization", "LRN"),
        *("MeanVarianceNormalization", "RMSNormalization", "SimplifiedLayerNormalization"),
    ),
    _GATES: ("LSTM", "GRU", "RNN", "Attention", "MultiHeadAttention"),
    _JUMPS: (
        *("Sign", "Floor", "Ceil", "Round", "Mod", "Hardmax", "Greater", "GreaterOrEqual", "Less", "LessOrEqual"),
        *("Equal", "And", "Or", "Not", "Xor", "IsInf", "IsNaN", "ThresholdedRelu", "OneHot"),
        *("QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "QLinearConv", "QLinearMatMul"),
        *("ConvInteger", "MatMulInteger", "BitShift"),
    ),
    _DATA: ("ArgMax", "ArgMin", "TopK", "NonZero", "Unique", "NonMaxSuppression", "MaxUnpool"),
    _RANDOM: (*("Bernoulli", "Multinomial", "RandomNormal", "RandomNormalLike", "RandomUniform", "RandomUniformLike"),),
    _CONTROL: ("If", "Loop", "Scan", "SequenceMap"),
    _NUMBERS: ("StringNormalizer", "TfIdfVectorizer", "StringConcat", "StringSplit", "RegexFullMatch", "ImageDecoder"),
}
_WHY = {operator: reason for reason, operators in _REASONS.items() for operator in operators}


def refusal(op_type: str) -> str:
    """One line on an operator that has no reader. The node and the operator are named by the caller."""
    reason = _WHY.get(op_type)
    said = "operator not supported" if reason is None else f"operator not supported: it {reason}"
    return f"{said} (docs/operators.md lists what is read)"
