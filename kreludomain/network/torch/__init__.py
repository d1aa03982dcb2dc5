"""Torch modules to networks: what a module computes is recorded while it runs, written as an ONNX model, and read.

There is one reader of layers, that of :mod:`kreludomain.network.onnx`; counterexamples replay on the model.
"""

from __future__ import annotations

import inspect
import traceback
import warnings
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from kreludomain.errors import InputError
from kreludomain.network.graph import Network
from kreludomain.network.onnx.model import OnnxModel
from kreludomain.network.onnx.reader import parse_onnx
from kreludomain.network.onnxruntime import check_against_runtime, returned
from kreludomain.network.operators import Shape
from kreludomain.network.torch.memory import Value
from kreludomain.network.torch.model import to_model
from kreludomain.network.torch.module import choose, evaluation, example, kind_of_numbers, outputs, unwrapped
from kreludomain.network.torch.places import Places
from kreludomain.network.torch.recorder import Record, Recorder

__all__ = ["from_torch"]

#: How far a module may be from the network: this many times as far as the network in float32 is from itself in float64,
#: plus this relative error, or this many roundings of the module's own numbers where those are coarser.
_FACTOR, _RELATIVE, _ROUNDINGS = 50.0, 1e-5, 32


def from_torch(module: nn.Module, input_shape: Sequence[int], output: str | int | None = None) -> Network:
    """A network that computes what a module computes in evaluation, ``module.eval()``, in float64.

    ``input_shape`` has no batch dimension. ``output`` says which one where the module returns several tensors: the key
    of a dictionary, or the position.

    The module runs on random inputs, and what it computes is recorded: any ``forward`` will do whose operations are
    affine, made of ReLUs or known activations, and the same for every input. The module is left as it was. Nodes are
    named by the paths of modules, such as ``layer1.0.conv1``. ``Network.model`` is the same in ONNX, in the module's
    own type where onnxruntime can run it in that.

    Raises :class:`InputError` that names the module and the line of ``forward`` where something is not supported, and
    if outputs differ from the module's or from onnxruntime's on random inputs. Warns where a last Softmax or the like
    is left out, so that the network ends at its logits.
    """
    module, shape = unwrapped(module), _sizes(input_shape)
    if any(parameter.is_meta for parameter in module.parameters()):
        raise InputError(f"{type(module).__name__}: its weights are on the device 'meta', which holds no numbers")
    kind = type(module).__name__
    record, values, name = _record(module, shape, output)
    value = values[name]
    if value is None:
        raise InputError(f"{kind}: its output does not depend on the input, or not through operations of torch")
    dtype, _ = kind_of_numbers(module)
    try:
        model = OnnxModel(to_model(record, value, _input_name(module), dtype))
    except InputError as error:
        raise InputError(f"{kind}: {error}") from None
    network = parse_onnx(model, kind)
    check_against_runtime(network, kind)
    _check(network, model, module, name)
    for note in network.notes:
        warnings.warn(f"{kind}: {note}", stacklevel=2)
    return network


def _sizes(input_shape: Sequence[int]) -> Shape:
    if isinstance(input_shape, int):
        raise InputError(f"input_shape: a tuple of sizes is expected, ({input_shape},)")
    if not all(isinstance(size, int) and size > 0 for size in input_shape):
        raise InputError(f"input_shape: sizes from 1 up are expected, not {tuple(input_shape)}")
    return tuple(input_shape)


def _input_name(module: nn.Module) -> str:
    """What ``forward`` calls its input."""
    try:
        return next(iter(inspect.signature(module.forward).parameters), "x")
    except (TypeError, ValueError):
        return "x"


def _record(module: nn.Module, shape: Shape, output: str | int | None) -> tuple[Record, dict[str, Value | None], str]:
    """The record of one run, the values of the outputs by name, and the name of the one that is asked for."""
    kind, x = type(module).__name__, example(module, shape, seed=1)
    with evaluation(module):
        recorder = Recorder(module, x)
        try:
            with recorder:
                found = outputs(module(x))
        except InputError as error:
            raise InputError(f"{kind}: {error}") from None
        except Exception as error:  # a forward may raise anything
            raise InputError(f"{kind}: {_failure(module, x, error)}") from None
        values = {name: recorder.value(tensor) for name, tensor in found.items()}
    try:
        return recorder.record, values, choose(found, output)
    except InputError as error:
        raise InputError(f"{kind}: {error}") from None


def _failure(module: nn.Module, x: Tensor, error: Exception) -> str:
    """One line about an exception of a ``forward``: where it was raised, and on what."""
    text = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)][::-1]
    place = Places(module).among(frames[:-1])
    missing = [
        p.name
        for p in list(inspect.signature(module.forward).parameters.values())[1:]
        if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
    ]
    if missing and isinstance(error, TypeError):
        return f"forward takes '{missing[0]}' too; a module of one input is supported"
    text = f"{text} (forward was given a tensor of shape {tuple(x.shape)}; input_shape has no batch dimension)"
    return place.refusal(text)


def _check(network: Network, model: OnnxModel, module: nn.Module, name: str) -> None:
    """Compares the network with the module on random inputs, one by one and as a batch; the model that it was read
    from, where the network ends at its logits."""
    x, kind = example(module, network.input.shape, seed=0, samples=8), type(module).__name__

    def computed(rows: Tensor) -> Tensor:
        with evaluation(module):
            result: Tensor = outputs(module(rows))[name]
            return result.detach().cpu().double()

    theirs = torch.cat([computed(row[None].clone()).reshape(1, -1) for row in x])
    relative = max(_RELATIVE, _ROUNDINGS * torch.finfo(x.dtype).eps)
    if network.head is None:
        ours = network(x.cpu().double()).flatten(1)
        rough = network.to(dtype=torch.float32)(x.cpu().float()).double().flatten(1)
    else:
        ours = rough = returned(model, x)
    allowed = (_FACTOR * (ours - rough).abs() + relative * ours.abs().clamp(min=1.0)).amax()
    if ours.shape != theirs.shape or not bool(((ours - theirs).abs() <= allowed).all()):
        raise InputError(f"{kind}: the network read from it computes something else")
    try:
        batch = computed(x.clone())
    except Exception:  # some forwards take a batch of one only
        return
    comparable = batch.shape[:1] == x.shape[:1] and batch.numel() == theirs.numel()
    if comparable and not bool(((batch.reshape(theirs.shape) - theirs).abs() <= allowed).all()):
        raise InputError(f"{kind}: what it computes for an input depends on the other inputs of the batch")
