"""Files as frameworks write them: where the weights are, what the input is, and which values are certified."""

from __future__ import annotations

import pytest
import torch
from test_onnx import model, op, values
from torch import nn

from kreludomain.network import from_torch, parse_onnx


@pytest.mark.parametrize("channels", [1, 3, 5])
@pytest.mark.parametrize("last", [False, True])
def test_the_first_convolution_says_where_the_channels_of_an_image_are(channels: int, last: bool) -> None:
    shape = (1, 5, 5, channels) if last else (1, channels, 5, 5)
    first = [op("Transpose", "x", output="t", perm=[0, 3, 1, 2])] if last else [op("Identity", "x", output="t")]
    nodes = [
        *first,
        op("Mul", "t", "s", output="n"),
        op("Pad", "n", "p", output="q"),
        op("Conv", "q", "w", auto_pad="SAME_UPPER"),
    ]
    constants = {"s": values(channels, 1, 1), "p": [0, 0, 1, 0, 0, 0, 0, 1], "w": values(2, channels, 3, 3)}
    assert parse_onnx(model(nodes, constants, shape)).input_layout == ("hwc" if last else "chw")


@pytest.mark.parametrize(
    ("shape", "layout"),
    [((28, 28, 1), "hwc"), ((3, 8, 8), "chw"), ((5, 5, 5), None), ((3, 2, 3), None), ((16,), None)],
)
def test_without_a_convolution_the_axis_of_channels_is_known_by_its_length(
    shape: tuple[int, ...], layout: str | None
) -> None:
    module = nn.Sequential(nn.Flatten(), nn.Linear(int(torch.tensor(shape).prod()), 2))
    assert from_torch(module, shape).input_layout == layout
