"""Modules as people write them become networks that compute the same, or one line says where they cannot."""

from __future__ import annotations

import collections
from collections.abc import Callable
from typing import Any

import onnx
import pytest
import torch
from networks import dense_module
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import parametrizations, spectral_norm, weight_norm

import kreludomain as kd
from kreludomain.network import Network, Runtime, from_torch, parse_onnx
from kreludomain.network.operators import Shape


class Module(nn.Module):
    """Layers under their numbers, and a function of them and the input."""

    def __init__(self, forward: Callable[..., Any], *layers: nn.Module) -> None:
        super().__init__()
        self.layers, self.function = nn.ModuleList(layers), forward

    def forward(self, x: Tensor) -> Any:
        return self.function(x, *self.layers)


class Block(nn.Module):
    """A block of a residual network, with everything in place that can be."""

    def __init__(self) -> None:
        super().__init__()
        self.conv1, self.bn1 = nn.Conv2d(1, 2, 3, padding=1, bias=False), nn.BatchNorm2d(2)
        self.conv2, self.bn2 = nn.Conv2d(2, 2, 3, padding="same", bias=False), nn.BatchNorm2d(2)
        self.shortcut = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.BatchNorm2d(2))
        self.relu = nn.ReLU(inplace=True)
        self.fc = nn.Linear(2, 3)
        for m in self.modules():
            if isinstance(m, nn.BatchNorm2d):
                nn.init.normal_(m.running_mean)
                nn.init.uniform_(m.running_var, 0.5, 2)

    def forward(self, x: Tensor) -> Tensor:
        out = self.bn2(self.conv2(self.relu(self.bn1(self.conv1(x)))))
        out += self.shortcut(x)
        out = functional.adaptive_avg_pool2d(self.relu(out), (1, 1))
        result: Tensor = self.fc(out.view(out.size(0), -1))
        return result


class Normalised(nn.Module):
    """Mean and deviation in buffers, layers in a loop, a tensor kept on the module, and a count of the calls."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.tensor([0.4, 0.5]).view(1, 2, 1, 1))
        self.register_buffer("std", torch.tensor([0.2, 0.3]).view(1, 2, 1, 1))
        self.register_buffer("calls", torch.zeros(1))
        self.layers = nn.ModuleDict({"a": nn.Linear(8, 6), "b": nn.Linear(6, 2)})
        self.features: Tensor | None = None

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        x = ((x - self.mean) / self.std).flatten(start_dim=1)
        for name, layer in self.layers.items():
            x = layer(x) if name == "b" else functional.dropout(layer(x).relu(), 0.5, self.training)
            self.features = x
        return 1 - 2 * x


class Tokens(nn.Module):
    """Patches, a class token, positions, layers on the last axis and across it."""

    def __init__(self) -> None:
        super().__init__()
        self.patches, self.across, self.head = nn.Conv2d(1, 3, 2, 2), nn.Linear(5, 5), nn.Linear(3, 2)
        self.token, self.place = nn.Parameter(torch.randn(1, 1, 3)), nn.Parameter(torch.randn(1, 5, 3))

    def forward(self, x: Tensor) -> Tensor:
        x = self.patches(x).flatten(2).transpose(1, 2)
        x = torch.cat([self.token.expand(x.shape[0], -1, -1), x], dim=1) + self.place
        x = x + self.across(x.mT).relu().mT
        result: Tensor = self.head(x[:, 0] + x.mean(dim=1))
        return result


def written_into_zeros(x: Tensor, a: nn.Module, b: nn.Module) -> Any:
    y = torch.zeros(x.shape[0], 6)
    y[:, :4] = a(x)
    y[:, 1:3].relu_()
    y[:, 4] = x[:, 0] * 2
    y[:, 5] -= y[:, 4]
    return b(y)


def changed_through_a_view(x: Tensor, a: nn.Module) -> Any:
    y = a(x)
    z = functional.relu(y, inplace=True)  # y and z are one tensor
    columns = y.t()
    columns[1:] *= 3
    return y + z


def masked(x: Tensor, a: nn.Module) -> Any:
    """Leaky ReLU, ReLU, max(h, 0.2), and a line with a kink at 1, by hand."""
    h = a(x)
    kept = h.clone()
    kept[kept < 0] = 0
    bent = torch.where(~(h > 1), h, 3 * h - 2)
    return h * (h > 0) + kept + (h >= 0).float() * h + h.masked_fill(h < 0.2, 0.2) + bent


def euler(x: Tensor, a: nn.Module, b: nn.Module) -> Any:
    for _ in range(3):
        x = x + 0.1 * b(torch.tanh(a(x)))
    return x


def line(*sizes: int) -> nn.Linear:
    return nn.Linear(*sizes)


def sequence(*layers: nn.Module) -> nn.Sequential:
    return nn.Sequential(*layers, nn.Flatten(), nn.LazyLinear(2))


Two = collections.namedtuple("Two", "scores features")

#: Modules by what is special about them, the shape of their input, and which output is asked for.
STYLES: dict[str, tuple[Callable[[], Any], Shape, str | int | None]] = {
    "residual block in place": (Block, (1, 5, 5), None),
    "buffers, dropout, state": (Normalised, (2, 2, 2), None),
    "patches and tokens": (Tokens, (1, 4, 4), None),
    "assigned entries": (lambda: Module(written_into_zeros, line(4, 4), line(6, 2)), (4,), None),
    "changed through a view": (lambda: Module(changed_through_a_view, line(3, 3)), (3,), None),
    "loop of one layer": (lambda: Module(euler, line(2, 3), line(3, 2)), (2,), None),
    "weights on the left": (lambda: Module(lambda x, a: (a.weight @ x.T).T.relu(), line(3, 4)), (3,), None),
    "einsum": (
        lambda: Module(lambda x, a: torch.einsum("bchw,oc->bohw", x, a.weight).relu(), line(2, 3)),
        (2, 2, 2),
        None,
    ),
    "branches, joined": (
        lambda: Module(lambda x, a, b: torch.cat((a(x[:, :2]).relu(), b(x[:, 2:])), 1), line(2, 2), line(1, 2)),
        (3,),
        None,
    ),
    "chunks, maximum, minimum": (
        lambda: Module(
            lambda x, a: (lambda u, v: torch.maximum(u, v) - torch.min(u, -v))(*a(x).chunk(2, 1)), line(3, 4)
        ),
        (3,),
        None,
    ),
    "points, then the largest": (lambda: Module(lambda x, a: a(x).relu().max(dim=1)[0], line(2, 3)), (3, 2), None),
    "sizes of axes": (
        lambda: Module(lambda x, a: a(x).norm(p=1, dim=1, keepdim=True) - x.abs().amax(1), line(3, 2)),
        (3,),
        None,
    ),
    "selection, flip, roll": (
        lambda: Module(lambda x, a: a(x[:, [3, 0, 2]].flip(1).roll(1, 1)), line(3, 2)),
        (4,),
        None,
    ),
    "clamped": (lambda: Module(lambda x, a: a((x / 255 - 0.1).clamp_(0, 0.5)).clamp(max=0.3), line(3, 2)), (3,), None),
    "constant masks": (
        lambda: Module(
            lambda x, a: torch.where(torch.tensor([True, False]), a(x), x[:, :2].relu()).masked_fill(
                torch.tensor([False, True]), 0.5
            ),
            line(3, 2),
        ),
        (3,),
        None,
    ),
    "chosen by comparisons": (
        lambda: Module(
            lambda x, a, b: (lambda u, v: torch.where(u > 0, 2 * u, 0.1 * u) + torch.where(u <= v, v, u))(a(x), b(x)),
            line(3, 2),
            line(3, 2),
        ),
        (3,),
        None,
    ),
    "masked by comparisons": (lambda: Module(masked, line(3, 2)), (3,), None),
    "linear by their matrices": (
        lambda: Module(
            lambda x, a: functional.fold(a(x).index_add(1, torch.tensor([0, 3]), 2 * x).view(-1, 2, 2), (1, 3), (1, 2)),
            line(2, 4),
        ),
        (2,),
        None,
    ),
    "squeezed to nothing": (lambda: Module(lambda x, a: a(x).relu().squeeze(), line(3, 1)), (3,), None),
    "batch of one only": (lambda: Module(lambda x, a: a(x.view(1, -1)), line(4, 2)), (2, 2), None),
    "NHWC": (lambda: Module(lambda x, a: a(x.permute(0, 3, 1, 2)).relu(), nn.Conv2d(2, 1, 2)), (3, 3, 2), None),
    "signal": (
        lambda: sequence(
            nn.ConstantPad1d((2, 0), 0.1), nn.Conv1d(2, 3, 2, dilation=2), nn.BatchNorm1d(3), nn.ReLU(), nn.MaxPool1d(2)
        ),
        (2, 6),
        None,
    ),
    "volume": (lambda: sequence(nn.Conv3d(1, 2, 2), nn.ReLU(), nn.AvgPool3d(2)), (1, 3, 3, 3), None),
    "resized": (
        lambda: sequence(
            nn.ConvTranspose2d(1, 2, 2, 2), nn.LeakyReLU(0.1), nn.Upsample(scale_factor=1.5, mode="bilinear")
        ),
        (1, 3, 3),
        None,
    ),
    "interpolated": (lambda: Module(lambda x: functional.interpolate(x.relu(), size=(5, 3))), (1, 3, 4), None),
    "padded": (
        lambda: sequence(nn.ReflectionPad2d(1), nn.Conv2d(1, 1, 3, padding=1, padding_mode="circular")),
        (1, 3, 3),
        None,
    ),
    "windows that overlap": (lambda: sequence(nn.AdaptiveAvgPool2d((2, 3)), nn.MaxPool2d((2, 1), 1)), (1, 5, 4), None),
    "made of ReLUs": (
        lambda: sequence(nn.PReLU(3), nn.Hardsigmoid(), nn.Softshrink(0.2), nn.RReLU(), nn.ReLU6()),
        (3,),
        None,
    ),
    "parametrised": (
        lambda: sequence(
            weight_norm(line(3, 3)), nn.ReLU(), parametrizations.orthogonal(line(3, 3)), spectral_norm(line(3, 2))
        ),
        (3,),
        None,
    ),
    "recurrent": (
        lambda: Module(lambda x, rnn: rnn(x)[0][:, -1], nn.RNN(2, 3, nonlinearity="relu", batch_first=True)),
        (3, 2),
        None,
    ),
    "output by its key": (lambda: Module(lambda x, a: {"scores": a(x.relu()), "x": x}, line(3, 2)), (3,), "scores"),
    "output by its position": (lambda: Module(lambda x, a: (x.exp(), [a(x), x]), line(3, 2)), (3,), 1),
    "output by its field": (lambda: Module(lambda x, a: Two(a(x), x.exp()), line(3, 2)), (3,), "scores"),
    "float64": (lambda: nn.Sequential(line(3, 4), nn.LeakyReLU(0.1), line(4, 2)).double(), (3,), None),
    "float64 image": (lambda: sequence(nn.Conv2d(1, 2, 2), nn.ReLU()).double(), (1, 3, 3), None),
    "bfloat16": (lambda: nn.Sequential(line(3, 4), nn.ReLU(), line(4, 2)).bfloat16(), (3,), None),
    "scripted": (lambda: torch.jit.script(nn.Sequential(line(3, 4), nn.ReLU(), line(4, 2))), (3,), None),
    "traced": (
        lambda: torch.jit.trace(nn.Sequential(nn.Conv2d(1, 2, 2), nn.ReLU()), torch.ones(1, 1, 3, 3)),
        (1, 3, 3),
        None,
    ),
    "data parallel": (lambda: nn.DataParallel(nn.Sequential(line(3, 4), nn.ReLU(), line(4, 2))), (3,), None),
    "a layer alone": (lambda: line(3, 2), (3,), None),
}


def rows_of(module: nn.Module, x: Tensor, output: str | int | None) -> Tensor:
    """What the module itself computes of each row, in evaluation, in float64."""
    module.eval()
    rows = []
    for row in x.to(next(module.parameters(), x).dtype):
        with torch.no_grad():
            returned = module(row[None].clone())
        if isinstance(output, str):
            returned = returned[output] if isinstance(returned, dict) else getattr(returned, output)
        elif output is not None:
            returned = returned[output][0]  # of the list that is there
        rows.append(returned.double().flatten())
    return torch.stack(rows)


@pytest.mark.parametrize(("make", "shape", "output"), STYLES.values(), ids=STYLES.keys())
def test_modules_are_read_as_they_compute(make: Callable[[], Any], shape: Shape, output: str | int | None) -> None:
    """The same values as the module's own and as onnxruntime's on the model, and bounds that hold them."""
    torch.manual_seed(0)
    module = make()
    if any(isinstance(p, nn.UninitializedParameter) for p in module.parameters()):
        module.eval()(torch.zeros(1, *shape, dtype=next(module.parameters()).dtype))
    network = from_torch(module, shape, output)
    generator = torch.Generator().manual_seed(2)
    x = torch.randn((30, *shape), generator=generator, dtype=torch.float64)
    near = x[:1] + 0.1 * (2 * torch.rand((30, *shape), generator=generator, dtype=torch.float64) - 1)
    rounded = 1e-5 if next(module.parameters(), x).dtype != torch.bfloat16 else 0.05
    torch.testing.assert_close(network(x).flatten(1), rows_of(module, x, output), rtol=rounded, atol=rounded)
    torch.testing.assert_close(Runtime(network)(x).double(), network(x), rtol=1e-5, atol=1e-5)
    bounds = kd.bounds(network, kd.ball(x[0], 0.1), "deeppoly")[network.output.name]
    occurs = rows_of(module, near, output)
    assert bool((occurs >= bounds.lower.flatten() - rounded).all() & (occurs <= bounds.upper.flatten() + rounded).all())


def test_exported_programs_are_read() -> None:
    module = nn.Sequential(line(3, 4), nn.ReLU(), line(4, 2)).eval()
    program = torch.export.export(module, (torch.zeros(1, 3),), strict=False)
    x = torch.randn(5, 3, dtype=torch.float64)
    torch.testing.assert_close(from_torch(program, (3,))(x), from_torch(module, (3,))(x))  # type: ignore[arg-type]


# ---- names, types, and the module afterwards ------------------------------------------------------------------------


def test_nodes_are_named_by_their_modules() -> None:
    names = [node.name for node in from_torch(Block(), (1, 5, 5)).nodes]
    expected = ["x", "conv1", "bn1", "relu", "conv2", "bn2", "shortcut.0", "shortcut.1", "add", "relu_1"]
    assert names[:10] == expected
    assert names[-1] == "fc"


def test_numbers_are_no_names() -> None:
    """YAML reads 0 and 0.1 as numbers."""
    module = nn.Sequential(nn.Sequential(line(2, 2), nn.ReLU()), line(2, 1))
    assert [node.name for node in from_torch(module, (2,)).nodes] == ["input", "_0.0", "_0.1", "_1"]


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_models_are_of_the_module_s_own_type(dtype: torch.dtype) -> None:
    module = nn.Sequential(line(3, 3), nn.LeakyReLU(0.1), nn.Hardtanh(-0.3, 0.3)).to(dtype)
    runtime, x = Runtime(from_torch(module, (3,))), torch.randn(20, 3, dtype=dtype)
    assert runtime.dtype == dtype
    torch.testing.assert_close(runtime(x), module(x).detach())


def test_weights_are_those_of_the_module_to_the_last_bit() -> None:
    module = dense_module(3, 4, 2)
    weights = [t for node in from_torch(module, (3,)).nodes for t in node.operator.tensors().values()]
    assert all(torch.equal(t, p) for t, p in zip(weights, module.parameters(), strict=True))


def test_modules_are_left_as_they_were() -> None:
    module = Normalised().train()
    module.layers["a"].eval()
    weight_norm(module.layers["b"])
    module(torch.zeros(1, 2, 2, 2))
    before = {name: t.clone() for name, t in module.state_dict().items()}
    features, attributes = module.features, set(vars(module.layers["b"]))
    from_torch(module, (2, 2, 2))
    assert module.training
    assert not module.layers["a"].training
    assert module.features is features
    assert set(vars(module.layers["b"])) == attributes
    assert all(torch.equal(t, before[name]) for name, t in module.state_dict().items())
    module(torch.zeros(1, 2, 2, 2)).sum().backward()  # gradients are still there


# ---- what cannot be read --------------------------------------------------------------------------------------------


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.query, self.key = line(2, 2), line(2, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.query(x) @ self.key(x).mT


class Inner(nn.Module):
    def __init__(self, inner: nn.Module) -> None:
        super().__init__()
        self.block = nn.ModuleDict({"attention": inner})

    def forward(self, x: Tensor) -> Any:
        return self.block["attention"](x)


class Branch(nn.Module):
    def forward(self, x: Tensor) -> Tensor:
        if x.sum() > 0:
            return x
        return -x


class TwoInputs(nn.Module):
    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        return x * mask


def of_input(function: Callable[..., Any], *layers: nn.Module) -> Module:
    return Module(function, *layers)


HERE = r"test_from_torch\.py line \d+: "


@pytest.mark.parametrize(
    ("module", "shape", "message"),
    [
        (Inner(Attention()), (3, 2), rf'Inner: .*attention\.matmul.*{HERE}"return self\.query.*".*product of two'),
        (Inner(Branch()), (2,), rf'Inner: node \'block\.attention\' \(Branch, {HERE}"if x\.sum.*".*branch'),
        (of_input(lambda x: functional.dropout(x)), (2,), rf"Module: {HERE}.*dropout.*random numbers"),
        (TwoInputs(), (2,), "TwoInputs: .*'mask'.*one input"),
        (of_input(lambda x: torch.from_numpy(x.numpy())), (2,), "does not depend on the input"),
        (of_input(lambda x: x - x.mean(0) + x), (2,), "depends on the other inputs of the batch"),
        (of_input(lambda x: torch.where(x > 0.1, x, 0 * x)), (2,), rf"{HERE}.*jumps where its condition changes"),
        (of_input(lambda x: torch.where(x > 0, x, 1 - x)), (2,), "jumps"),
        (of_input(lambda x: x * (x.flip(1) > 0)), (2,), "jumps"),
        (of_input(lambda x: (x > 0).float() @ torch.ones(2, 1)), (2,), "jumps"),
        (of_input(lambda x: x.max(1)[1]), (2,), "jumps"),
        (of_input(lambda x: None), (2,), "no tensor"),
        (of_input(lambda x: (x, {"a": -x})), (2,), r"2 outputs: '0' of shape \(2,\), '1\.a' of shape \(2,\);.*output="),
        (of_input(lambda x: torch.cdist(x, x)), (2,), rf"{HERE}.*'_?cdist.*' of torch is not supported"),
        (of_input(lambda x: x / x.norm()), (2,), rf"{HERE}.*not supported"),
        (nn.Sequential(nn.Softmax(1), line(2, 2)), (2,), r"Sequential: node '_0' \(Softmax\): .*not supported"),
        (nn.Sequential(nn.Softplus(threshold=1)), (2,), r"'_0' \(Softplus\): threshold 1;"),
        (nn.Sequential(line(2, 2), nn.LayerNorm(2)), (2,), r"'_1' \(LayerNorm\): .*divides by a deviation"),
        (nn.Sequential(line(3, 2)), (4,), r"'_0' \(Linear\).*1x4 and 3x2.*no batch dimension"),
        (nn.Sequential(nn.Conv2d(2, 2, 1)), (3, 4, 4), r"'_0' \(Conv2d\).*3 channels"),
        (nn.Sequential(nn.BatchNorm2d(5)), (5,), r"'_0' \(BatchNorm2d\): expected 4D"),
        (nn.Sequential(nn.MaxPool2d(2, return_indices=True)), (1, 4, 4), "2 outputs"),
        (nn.Sequential(nn.BatchNorm1d(2, track_running_stats=False)), (2, 3), "running statistics"),
        (nn.Sequential(nn.AvgPool2d(2, ceil_mode=True, divisor_override=3)), (1, 5, 5), "divisor_override"),
        (nn.Sequential(line(2, 2)).to("meta"), (2,), "meta"),
        (nn.Linear, (2,), "is a class"),
        (line(2, 2).state_dict(), (2,), "load_state_dict"),
        ("net.onnx", (2,), "kd.load"),
        (line(2, 2), 2, r"input_shape: .*\(2,\)"),
        (line(2, 2), (-1, 2), "input_shape: .*from 1 up"),
    ],
)
def test_what_cannot_be_read_is_said_in_one_line(module: Any, shape: Any, message: str) -> None:
    with pytest.raises(kd.InputError, match=message) as caught:
        from_torch(module, shape)
    assert "\n" not in str(caught.value)


def test_errors_of_files_name_the_line_that_torch_noted() -> None:
    """torch's exporter notes all frames, its own layers' innermost."""
    weight = onnx.numpy_helper.from_array(torch.ones(2, 2).numpy(), "w")
    product = onnx.helper.make_node("Mul", ["h", "h"], ["y"], name="square")
    trace = (
        'File "/a/net.py", line 7, in forward\n  return self.act(h)\nFile "/x/torch/nn/a.py", line 9, in forward\n  F'
    )
    product.metadata_props.add(key="pkg.torch.onnx.stack_trace", value=trace)
    values = [onnx.helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, [1, 2]) for name in "xy"]
    nodes = [onnx.helper.make_node("MatMul", ["x", "w"], ["h"]), product]
    model = onnx.helper.make_model(onnx.helper.make_graph(nodes, "g", values[:1], values[1:], [weight]), ir_version=10)
    with pytest.raises(kd.InputError, match=r"node 'square' \(Mul, net\.py line 7: \"return self\.act\(h\)\"\)"):
        parse_onnx(model.SerializeToString())


@pytest.mark.parametrize("output", ["score", 2, -3, True])
def test_outputs_that_are_not_there_are_told_the_others(output: str | int) -> None:
    module = of_input(lambda x: {"scores": x, "x": -x})
    with pytest.raises(
        kd.InputError, match=rf"output '?{output}'? is not one of its outputs: 'scores' of shape \(2,\), 'x'"
    ):
        from_torch(module, (2,), output)


def test_weights_that_are_not_finite_name_the_node() -> None:
    module = dense_module(2, 3, 1)
    module[2].get_parameter("weight").data[0, 1] = torch.nan
    with pytest.raises(kd.InputError, match="node '_2': weight contains NaN"):
        from_torch(module, (2,))


def test_a_shape_is_not_a_value() -> None:
    """What depends on the input's shape only is a constant, branches and numbers too."""

    def forward(x: Tensor) -> Tensor:
        if x.dim() == 3 and x.shape[-1] > 1:
            x = x.sum(1) / x.shape[1]
        return torch.max(x, torch.zeros_like(x))

    network: Network = from_torch(of_input(forward), (2, 3))
    x = torch.randn(5, 2, 3, dtype=torch.float64)
    torch.testing.assert_close(network(x), x.mean(1).relu())
