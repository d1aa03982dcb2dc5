"""How the images of data lie, and how a network takes them."""

from __future__ import annotations

import math
from typing import Literal, get_args

import numpy as np

from kreludomain.errors import InputError
from kreludomain.network import Network

#: Height, width, channels; channels, height, width; or no image.
DataLayout = Literal["chw", "hwc", "flat"]
LAYOUTS: tuple[str, ...] = get_args(DataLayout)

Shape = tuple[int, ...]


def arranged(values: np.ndarray, network: Network, layout: DataLayout | None, source: str) -> np.ndarray:
    """Rows of values ``(n, ...)`` as inputs ``(n, *input_shape)`` of a network; ``layout`` says how the rows lie.

    Values lie as the network takes them where ``layout`` is not given. Where it is, and says otherwise than
    :attr:`~kreludomain.Network.input_layout`, channels are moved. Networks that take no images (inputs with another
    number of dimensions than three) get the values in the order in which they are.

    Raises :class:`InputError` for rows of another size, for rows whose own shape contradicts ``layout`` or the network,
    and for a ``layout`` where nothing says how the network takes images.
    """
    given, shape = values.shape[1:], network.input.shape
    if math.prod(given) != math.prod(shape):
        what = f"rows of {math.prod(given)} values" if len(given) == 1 else f"inputs of shape {given}"
        labelled = given == (math.prod(shape) + 1,)
        hint = "; labels are no part of the inputs, but an array of their own: 'labels'" if labelled else ""
        raise InputError(f"{source}: {what}, the network takes {_sized(shape)}{hint}")
    lies = _lying(network, layout, source)
    if len(given) > 1 and len(shape) > 1 and not _same(given, lies):
        raise InputError(f"{source}: {_contradiction(given, network, layout)}")
    rows = values.reshape(len(values), *lies)
    if lies is not shape:
        rows = np.moveaxis(rows, *((3, 1) if network.input_layout == "chw" else (1, 3)))
    return np.ascontiguousarray(rows, dtype=np.float64)


def _lying(network: Network, layout: DataLayout | None, source: str) -> Shape:
    """The shape of an input as it lies in data of a layout."""
    shape, takes = network.input.shape, network.input_layout
    if layout in (None, "flat", takes) or len(shape) == 1:
        return shape
    if takes is None:
        raise InputError(
            f"{source}: layout: {layout}: whether the network's inputs {shape} are images with channels first or last "
            "is not known; leave layout out, and give the values in the order in which the network takes them"
        )
    return _moved(shape, takes)


def _moved(shape: Shape, layout: str) -> Shape:
    """The shape of an image of ``layout`` in the other one."""
    return (*shape[1:], shape[0]) if layout == "chw" else (shape[2], *shape[:2])


def _same(first: Shape, second: Shape) -> bool:
    """Whether shapes are the same besides ones."""
    return [size for size in first if size != 1] == [size for size in second if size != 1]


def _contradiction(given: Shape, network: Network, layout: DataLayout | None) -> str:
    shape, takes = network.input.shape, network.input_layout
    said = "" if layout is None else f"layout: {layout}, but "
    text = f"{said}inputs of shape {given}, the network takes {shape}"
    if takes is None:
        return text
    other = "hwc" if takes == "chw" else "chw"
    fitting = [name for name, lies in ((takes, shape), (other, _moved(shape, takes))) if _same(given, lies)]
    return f"{text}: layout: {fitting[0]}" if fitting else text


def _sized(shape: Shape) -> str:
    return str(shape[0]) if len(shape) == 1 else f"{math.prod(shape)}, of shape {shape}"
