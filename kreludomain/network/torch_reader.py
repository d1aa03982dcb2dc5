"""Torch modules to networks, by symbolic tracing: Sequential, or a forward with residual additions."""

from __future__ import annotations

import copy
import math
import operator as python_operator
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn import functional

from kreludomain.activations import ActivationFunction, Gelu, HardSwish, Relu, Sigmoid, Softplus, Tanh
from kreludomain.errors import InputError
from kreludomain.network.graph import Network, Node, trim
from kreludomain.network.lowering import Decomposition, Window, average_pool, chain, clip, leaky_relu, max_pool
from kreludomain.network.operators import (
    Activation,
    Convolution,
    Input,
    Linear,
    Operator,
    Reshape,
    Scale,
    Shape,
    Sum,
    channel_scale,
)

Pair = tuple[int, int]

#: A step of the trace, converted: an operator, a decomposition into several, or ``None`` for the unchanged value.
Converted = Operator | Decomposition | None


def from_torch(module: nn.Module, input_shape: Shape) -> Network:
    """A network that computes what ``module.eval()`` computes, in float64.

    ``input_shape`` has no batch dimension. Modules: Linear, Conv2d, ReLU, LeakyReLU, Hardtanh, ReLU6, Sigmoid, Tanh,
    Softplus, GELU, Hardswish, Flatten, BatchNorm1d/2d, AvgPool2d, MaxPool2d, AdaptiveAvgPool2d(1), Identity, Dropout,
    nested in any way; in a ``forward`` also ``+``, ``-``, the functions of these activations, ``flatten``, ``view`` and
    ``reshape`` with constant sizes. Raises :class:`InputError` that names the unsupported module or function, or if the
    result differs from the module on random inputs.
    """
    module = copy.deepcopy(module).eval().double().cpu()
    if type(module) in MODULES:  # a layer alone has no forward to trace through
        module = nn.Sequential(module)
    try:
        traced = fx.symbolic_trace(module)
    except Exception as error:  # a forward may raise anything while it is traced; its text is what the user needs
        raise InputError(f"{type(module).__name__} cannot be traced: {str(error).splitlines()[0]}") from error
    network = _read(traced, tuple(input_shape))
    _check(network, module)
    return network


def _read(traced: fx.GraphModule, input_shape: Shape) -> Network:
    nodes: list[Node] = []
    shapes: dict[str, Shape] = {}
    aliases: dict[str, str] = {}
    for step in traced.graph.nodes:
        if step.op == "placeholder":
            if nodes:
                raise InputError(f"input '{step.name}': a module of one input is supported")
            made: Converted = Input(input_shape)
            sources: tuple[str, ...] = ()
        elif step.op == "output":
            result = step.args[0]
            if not isinstance(result, fx.Node):
                raise InputError("a module with one output tensor is supported")
            return Network(trim(nodes, aliases.get(result.name, result.name)))
        else:
            sources = tuple(aliases.get(n.name, n.name) for n in step.all_input_nodes)
            try:
                made = _converted(step, traced, [shapes[name] for name in sources])
            except (InputError, IndexError, RuntimeError, TypeError, ValueError) as error:
                text = str(error).splitlines()[0] if str(error) else type(error).__name__
                raise InputError(f"node '{step.name}' ({_kind(step, traced)}): {text}") from None
        if made is None:
            aliases[step.name] = sources[0]
            continue
        nodes += (Node(step.name, made, sources),) if isinstance(made, Operator) else made(step.name, sources[0])
        shapes[step.name] = nodes[-1].shape
    raise InputError("the module returns nothing")


def _kind(step: fx.Node, traced: fx.GraphModule) -> str:
    if step.op == "call_module":
        return type(traced.get_submodule(str(step.target))).__name__
    return getattr(step.target, "__name__", str(step.target))


def _converted(step: fx.Node, traced: fx.GraphModule, shapes: list[Shape]) -> Converted:
    if step.op == "call_module":
        module = traced.get_submodule(str(step.target))
        if type(module) not in MODULES:
            raise InputError(f"module not supported; supported are {', '.join(t.__name__ for t in MODULES)}")
        return MODULES[type(module)](module, shapes[0])
    if step.target not in FUNCTIONS or len(shapes) == 0:
        raise InputError("function not supported")
    return FUNCTIONS[step.target](step, shapes)


def _pair(value: Any) -> Pair:
    return (value, value) if isinstance(value, int) else (value[0], value[1])


def _linear(module: nn.Linear, shape: Shape) -> Operator:
    return Linear(module.weight.data, None if module.bias is None else module.bias.data, shape)


def _conv(module: nn.Conv2d, shape: Shape) -> Operator:
    if module.padding_mode != "zeros" or isinstance(module.padding, str):
        raise InputError("padding given as numbers, with zeros, is supported")
    bias = None if module.bias is None else module.bias.data
    stride, padding, dilation = (_pair(v) for v in (module.stride, module.padding, module.dilation))
    return Convolution(module.weight.data, bias, shape, stride, padding, dilation, module.groups)


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, shape: Shape) -> Operator:
    if module.running_mean is None or module.running_var is None:
        raise InputError("batch normalisation without running statistics depends on the batch")
    if shape[0] != module.num_features or (isinstance(module, nn.BatchNorm2d) and len(shape) != 3):
        raise InputError(f"{module.num_features} features do not fit a value of shape {shape}")
    multiplier = 1.0 / torch.sqrt(module.running_var + module.eps)
    shift = -module.running_mean * multiplier
    if module.affine:
        multiplier, shift = multiplier * module.weight.data, shift * module.weight.data + module.bias.data
    return channel_scale(multiplier, shift, shape)


def _window(module: nn.AvgPool2d | nn.MaxPool2d, dilation: Pair) -> Window:
    kernel, stride, (above, beside) = (_pair(v) for v in (module.kernel_size, module.stride, module.padding))
    return Window(kernel, stride, ((above, above), (beside, beside)), dilation, module.ceil_mode)


def _avg_pool(module: nn.AvgPool2d, shape: Shape) -> Converted:
    if module.divisor_override:
        raise InputError("divisor_override is not supported")
    return average_pool(shape, _window(module, (1, 1)), module.count_include_pad)


def _max_pool(module: nn.MaxPool2d, shape: Shape) -> Converted:
    if module.return_indices:
        raise InputError("return_indices is not supported")
    return max_pool(shape, _window(module, _pair(module.dilation)))


def _adaptive_avg_pool(module: nn.AdaptiveAvgPool2d, shape: Shape) -> Converted:
    if module.output_size not in (1, (1, 1)) or len(shape) != 3:
        raise InputError(f"output_size {module.output_size}; one entry a channel is supported")
    return average_pool(shape, Window((shape[1], shape[2]), (1, 1), ((0, 0), (0, 0)), (1, 1)), True)


def _softplus(shape: Shape, beta: float = 1.0, threshold: float = 20.0) -> Converted:
    """``log(1 + exp(beta x)) / beta``. From ``threshold`` on torch takes ``x``, which is then as good."""
    if threshold < 20:
        raise InputError(f"threshold {threshold:g}; from 20 up is supported, where it changes nothing")
    if beta == 1:
        return Activation(Softplus(), shape)
    factor = torch.tensor(float(beta), dtype=torch.float64)
    return chain(Scale(factor, None, shape), Activation(Softplus(), shape), Scale(1 / factor, None, shape))


def _gelu(shape: Shape, approximate: str = "none") -> Converted:
    if approximate != "none":
        raise InputError(f"approximate '{approximate}' is another function; 'none' is supported")
    return Activation(Gelu(), shape)


def _flatten(module: nn.Flatten, shape: Shape) -> Operator:
    return _flattened(shape, module.start_dim, module.end_dim)


def _flattened(shape: Shape, start: int = 0, end: int = -1) -> Operator:
    if start != 1 or end not in (-1, len(shape)):
        raise InputError("flatten keeps the batch dimension and joins all others: start_dim=1, end_dim=-1")
    return Reshape(shape, (math.prod(shape),))


MODULES: dict[type[nn.Module], Callable[[Any, Shape], Converted]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.ReLU: lambda module, shape: Activation(Relu(), shape),
    nn.Flatten: _flatten,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.AvgPool2d: _avg_pool,
    nn.AdaptiveAvgPool2d: _adaptive_avg_pool,
    nn.MaxPool2d: _max_pool,
    nn.LeakyReLU: lambda module, shape: leaky_relu(shape, module.negative_slope),
    nn.Hardtanh: lambda module, shape: clip(shape, module.min_val, module.max_val),
    nn.ReLU6: lambda module, shape: clip(shape, 0.0, 6.0),
    nn.Sigmoid: lambda module, shape: Activation(Sigmoid(), shape),
    nn.Tanh: lambda module, shape: Activation(Tanh(), shape),
    nn.Softplus: lambda module, shape: _softplus(shape, module.beta, module.threshold),
    nn.GELU: lambda module, shape: _gelu(shape, module.approximate),
    nn.Hardswish: lambda module, shape: Activation(HardSwish(), shape),
    nn.Identity: lambda module, shape: None,
    nn.Dropout: lambda module, shape: None,
}


def _added(step: fx.Node, shapes: list[Shape], sign: int) -> Operator:
    if not all(isinstance(a, fx.Node) for a in step.args):
        raise InputError("adding a constant is supported through a module's bias only")
    if len(step.all_input_nodes) == 1:
        raise InputError("adding a value to itself is not supported")
    if shapes[0] != shapes[1]:
        raise InputError(f"operands of shapes {shapes[0]} and {shapes[1]}; equal shapes are supported")
    return Sum((1, sign), shapes[0])


def _sized(step: fx.Node, shapes: list[Shape]) -> Operator:
    sizes = step.args[1:]
    sizes = tuple(sizes[0]) if len(sizes) == 1 and isinstance(sizes[0], tuple | list) else sizes
    rest = [s for s in sizes[1:] if isinstance(s, int)]
    if len(rest) < len(sizes) - 1:
        raise InputError("only constant sizes after the batch dimension are supported")
    total = math.prod(shapes[0])
    if -1 in rest:
        rest[rest.index(-1)] = total // max(1, math.prod(s for s in rest if s != -1))
    return Reshape(shapes[0], tuple(rest))


def _functional_flatten(step: fx.Node, shapes: list[Shape]) -> Operator:
    arguments: dict[str, Any] = dict(zip(("start_dim", "end_dim"), step.args[1:], strict=False)) | step.kwargs
    return _flattened(shapes[0], arguments.get("start_dim", 0), arguments.get("end_dim", -1))


def _entrywise(function: ActivationFunction) -> Callable[[fx.Node, list[Shape]], Operator]:
    return lambda step, shapes: Activation(function, shapes[0])


def _functional(read: Callable[..., Converted]) -> Callable[[fx.Node, list[Shape]], Converted]:
    """``read(shape, ...)`` with the arguments that a function is called with after its input."""
    return lambda step, shapes: read(shapes[0], *step.args[1:], **step.kwargs)


FUNCTIONS: dict[Any, Callable[[fx.Node, list[Shape]], Converted]] = {
    python_operator.add: lambda step, shapes: _added(step, shapes, 1),
    python_operator.iadd: lambda step, shapes: _added(step, shapes, 1),
    python_operator.sub: lambda step, shapes: _added(step, shapes, -1),
    torch.add: lambda step, shapes: _added(step, shapes, 1),
    **dict.fromkeys((torch.relu, functional.relu, "relu"), _entrywise(Relu())),
    **dict.fromkeys((torch.sigmoid, functional.sigmoid, "sigmoid"), _entrywise(Sigmoid())),
    **dict.fromkeys((torch.tanh, functional.tanh, "tanh"), _entrywise(Tanh())),
    functional.softplus: _functional(_softplus),
    functional.gelu: _functional(_gelu),
    functional.hardswish: _entrywise(HardSwish()),
    **dict.fromkeys((torch.flatten, "flatten"), _functional_flatten),
    **dict.fromkeys((torch.reshape, "view", "reshape"), _sized),
}


def _check(network: Network, module: nn.Module) -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn((4, *network.input.shape), generator=generator, dtype=torch.float64)
    try:
        with torch.no_grad():
            expected: Tensor = module(x)
    except (IndexError, RuntimeError, ValueError) as error:
        raise InputError(f"{type(module).__name__}: {str(error).splitlines()[0]}") from None
    got = network(x)
    if expected.shape != got.shape or not torch.allclose(expected, got, rtol=1e-9, atol=1e-9):
        raise InputError(f"{type(module).__name__}: the network read from it computes something else")
