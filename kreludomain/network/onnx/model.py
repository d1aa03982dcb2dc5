"""ONNX models as they are run, and reading them from their files.

A model's weights may lie in other files beside its own ("external data" in ONNX's specification,
https://onnx.ai/onnx/repo-docs/ExternalData.html): ``torch.onnx.export`` writes ``net.onnx.data`` beside ``net.onnx``.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.message import DecodeError, EncodeError
from onnx import TensorProto

from kreludomain.errors import InputError
from kreludomain.packed import read_packed

#: Where an initializer says it is when its values are an entry of :attr:`OnnxModel.weights`.
_BESIDE = "weights"
#: The exceptions that a damaged or contradictory file raises; all of them become one line.
MALFORMED = (
    InputError,
    ArithmeticError,
    AttributeError,
    EncodeError,
    IndexError,
    KeyError,
    MemoryError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True, eq=False)
class OnnxModel:
    """An ONNX model as onnxruntime runs it.

    ``graph`` is the serialised model. ``weights`` are the initializers that lie outside of it, by name: they are not
    copied into it, since a serialised model can have no more than 2 GiB. ``passed`` are values whose nodes pass on what
    they are given: the last Softmax of a network that is read up to its logits.
    """

    graph: bytes
    weights: Mapping[str, np.ndarray] = field(default_factory=dict)
    passed: tuple[str, ...] = ()

    def proto(self) -> onnx.ModelProto:
        """The model as an object, without the weights outside of it. Raises :class:`InputError` if it is damaged."""
        try:
            return onnx.load_model_from_string(self.graph)
        except DecodeError:
            raise InputError("not a valid ONNX model (it is damaged, or no ONNX file at all)") from None

    def runnable(self) -> bytes:
        """The serialised model in which the nodes of ``passed`` pass on what they are given."""
        if not self.passed:
            return self.graph
        proto = self.proto()
        pass_on(proto.graph, self.passed)
        result: bytes = proto.SerializeToString()
        return result

    def values(self) -> frozenset[str]:
        """The names of all values that its nodes compute."""
        return frozenset(name for node in self.proto().graph.node for name in node.output)

    def digest(self) -> str:
        """The SHA-256 hash of the model with all its weights."""
        found = hashlib.sha256(self.graph)
        for name, value in sorted(self.weights.items()):
            found.update(f"{name} {value.dtype} {value.shape}\n".encode())
            found.update(np.ascontiguousarray(value).data.cast("B"))
        return found.hexdigest()


def read_model(path: str | Path) -> OnnxModel:
    """The model in an ONNX file, or one packed with gzip, with the weights that lie in files beside it.

    Raises :class:`InputError` with the file's name.
    """
    path = Path(path)
    model = OnnxModel(read_packed(path))
    with named(str(path)):
        proto = model.proto()
        outside = [tensor for tensor in tensors(proto.graph) if tensor.data_location == TensorProto.EXTERNAL]
        if not outside:
            return model
        initializers = {id(tensor) for tensor in proto.graph.initializer}
        weights = {}
        for tensor in outside:
            value = _values_beside(tensor, path.parent)
            del tensor.external_data[:]
            if id(tensor) in initializers:
                weights[tensor.name] = value
                tensor.external_data.add(key="location", value=_BESIDE)
            else:  # in a node or a subgraph, where onnxruntime takes no values from outside
                tensor.data_location = TensorProto.DEFAULT
                tensor.raw_data = value.tobytes()
        return OnnxModel(proto.SerializeToString(), weights)


@contextmanager
def named(source: str) -> Iterator[None]:
    """Puts a file's name in front of an :class:`InputError`, and makes one of what a damaged file raises."""
    try:
        yield
    except InputError as error:
        raise InputError(f"{source}: {error}") from None
    except MALFORMED as error:
        raise InputError(f"{source}: not a valid ONNX model ({first_line(error)})") from None


def first_line(error: Exception) -> str:
    """The first line of an error's text; its name, where it has none."""
    lines = str(error).strip().splitlines()
    return lines[0] if lines else type(error).__name__


def pass_on(graph: onnx.GraphProto, values: Collection[str]) -> None:
    """Makes the nodes of some values give their input, or what they compute before a last function of their own."""
    for node in graph.node:
        if not set(node.output) & set(values):
            continue
        if node.op_type == "LinearClassifier":
            kept = [attribute for attribute in node.attribute if attribute.name != "post_transform"]
            del node.attribute[:]
            node.attribute.extend([*kept, onnx.helper.make_attribute("post_transform", "NONE")])
        else:
            node.CopyFrom(onnx.helper.make_node("Identity", node.input[:1], node.output[:1], name=node.name))


def tensors(graph: onnx.GraphProto) -> Iterator[TensorProto]:
    """Every tensor of a graph: initializers, and those in the attributes of nodes and in their subgraphs."""
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("t"):
                yield attribute.t
            yield from attribute.tensors
            for inner in (attribute.g, *attribute.graphs):
                yield from tensors(inner)


def _values_beside(tensor: TensorProto, folder: Path) -> np.ndarray:
    """The values of a tensor whose data are in another file, which has to be in the model's folder or below."""
    entries = {entry.key: entry.value for entry in tensor.external_data}
    location = entries.get("location", "")
    file = _data_file(location, folder, tensor.name)
    try:
        offset, length = (int(entries.get(key) or 0) for key in ("offset", "length"))
        kind = np.dtype(onnx.helper.tensor_dtype_to_np_dtype(tensor.data_type))
    except (KeyError, ValueError):
        raise InputError(
            f"weights '{tensor.name}': their place in '{location}' is not given as whole numbers"
        ) from None
    if tensor.data_type in (TensorProto.STRING, TensorProto.UNDEFINED) or kind.kind not in "biuf":
        raise InputError(f"weights '{tensor.name}' in '{location}': not numbers")
    size = int(np.prod(tensor.dims, dtype=np.int64)) * kind.itemsize
    if min((*tensor.dims, offset, length), default=0) < 0 or ("length" in entries and length != size):
        raise InputError(
            f"weights '{tensor.name}' of shape {tuple(tensor.dims)}: {length} bytes at {offset} in '{location}', "
            f"{size} are needed"
        )
    with file.open("rb") as opened:
        there = opened.seek(0, 2)
        if there < offset + size:
            raise InputError(
                f"weights '{tensor.name}': '{location}' has {there} bytes, {offset + size} are needed; it is cut off, "
                "or of another network"
            )
        opened.seek(offset)
        return np.frombuffer(opened.read(size), kind).reshape(tuple(tensor.dims))


def _data_file(location: str, folder: Path, name: str) -> Path:
    """The file that a location names, relative to the model's folder. Links are followed, and may not lead out."""
    relative = Path(location.replace("\\", "/"))
    inside = folder.resolve()
    try:
        found = (inside / relative).resolve()
        there = found.is_file()
    except (OSError, ValueError, RuntimeError):  # names that no file can have, links in a circle
        raise InputError(f"weights '{name}' are in {location[:80]!r}, which is no file's name") from None
    if not location or relative.is_absolute() or ".." in relative.parts or not found.is_relative_to(inside):
        raise InputError(f"weights '{name}' are in '{location}'; data files are read only from the folder of the model")
    if not there:
        raise InputError(f"weights '{name}' are in '{location}', and there is no such file beside the model")
    return found
