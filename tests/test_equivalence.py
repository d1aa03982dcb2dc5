"""Two networks compared: their difference, twins, joined branches, and what is certified about them."""

from __future__ import annotations

import copy
import itertools
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
import yaml
from exact import exact_minima
from torch import Tensor, nn

import kreludomain as kd
from kreludomain.network import Runtime
from kreludomain.network.operators import Concat
from kreludomain.run.certify.study import Certify

METHODS = ("deeppoly", "krelu-lp", "krelu", "complete")


def dense(*sizes: int, seed: int = 0) -> nn.Sequential:
    torch.manual_seed(seed)
    layers = [layer for pair in itertools.pairwise(sizes) for layer in (nn.Linear(*pair), nn.ReLU())]
    return nn.Sequential(*layers[:-1])


def rounded(module: nn.Module, steps: int) -> nn.Module:
    """A copy with weights of so many steps on each side of zero."""
    made = copy.deepcopy(module)
    for weight in made.parameters():
        unit = weight.data.abs().max() / steps
        weight.data = (weight.data / unit).round() * unit
    return made


def permuted(module: nn.Sequential) -> nn.Sequential:
    """A copy with the neurons of its first layer in another order."""
    made = copy.deepcopy(module)
    order = torch.randperm(made[0].out_features, generator=torch.Generator().manual_seed(3))
    made[0].weight.data, made[0].bias.data = made[0].weight.data[order], made[0].bias.data[order]
    made[2].weight.data = made[2].weight.data[:, order]
    return made


class Branches(nn.Module):
    """The difference of two modules as people write it."""

    def __init__(self, first: nn.Module, second: nn.Module) -> None:
        super().__init__()
        self.first, self.second = first, second

    def forward(self, x: Tensor) -> Tensor:
        return self.first(x) - self.second(x)


def cube(inputs: int, size: float = 1.0) -> kd.Region:
    side = torch.full((inputs,), size, dtype=torch.float64)
    return kd.box(-side, side)


def largest(first: nn.Module, second: nn.Module, inputs: int, count: int = 20_000) -> float:
    x = torch.rand(count, inputs, generator=torch.Generator().manual_seed(1)) * 2 - 1
    with torch.no_grad():
        return float((first(torch.cat([x, x.sign()])) - second(torch.cat([x, x.sign()]))).abs().max())


@pytest.fixture(scope="module")
def small() -> nn.Sequential:
    return dense(4, 10, 3)


@pytest.fixture(scope="module")
def deep() -> nn.Sequential:
    return dense(3, 8, 8, 2, seed=2)


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("copy_of", [copy.deepcopy, permuted])
def test_a_copy_is_proved_to_be_one(method: str, copy_of, small: nn.Sequential) -> None:
    network, other = (kd.from_torch(module, (4,)) for module in (small, copy_of(small)))
    found = kd.equivalent(network, other, cube(4), 0.001, method)
    assert found.verdict == "verified"
    assert found.largest_difference[1] <= 0.001


def test_copies_of_a_deep_network_differ_by_rounding_errors() -> None:
    module = dense(20, 50, 50, 10)
    network = kd.from_torch(module, (20,))
    low, high = kd.equivalent(network, kd.from_torch(module, (20,)), cube(20), 0.001, "deeppoly").largest_difference
    assert low == 0.0
    assert 0 < high < 1e-8


def in_one_layer(first: nn.Sequential, second: nn.Sequential) -> nn.Sequential:
    """The difference of two networks of one hidden layer, with the neurons of both in one."""
    (a, _, b), (c, _, d) = first, second
    made = nn.Sequential(nn.Linear(a.in_features, 2 * a.out_features), nn.ReLU(), nn.Linear(1, 1))
    made[0].weight.data = torch.cat([a.weight.data, c.weight.data])
    made[0].bias.data = torch.cat([a.bias.data, c.bias.data])
    made[2].weight = nn.Parameter(torch.cat([b.weight.data, -d.weight.data], dim=1))
    made[2].bias = nn.Parameter(b.bias.data - d.bias.data)
    return made


@pytest.mark.parametrize("method", METHODS)
def test_bounds_of_the_difference_hold_its_exact_maximum(method: str) -> None:
    first = dense(2, 4, 1, seed=4)
    second = rounded(first, 6)
    region = cube(2)
    stacked = kd.from_torch(in_one_layer(first, second), (2,))
    exact = float((-exact_minima(stacked, region, torch.tensor([[1.0], [-1.0]], dtype=torch.float64))).max())
    f, g = (kd.from_torch(module, (2,)) for module in (first, second))
    low, high = kd.equivalent(f, g, region, 0.0, method, tight=True, attack=False).largest_difference
    assert 0.8 * exact < low <= exact * (1 + 1e-5)
    assert exact <= high < (2 if method.startswith("krelu") else 4) * exact


@pytest.mark.parametrize("steps", [4, 16, 127])
def test_complete_decides_on_both_sides_of_the_largest_difference(steps: int, small: nn.Sequential) -> None:
    other = rounded(small, steps)
    f, g = (kd.from_torch(module, (4,)) for module in (small, other))
    delta = largest(small, other, 4)
    assert kd.equivalent(f, g, cube(4), 1.2 * delta, "complete", timeout_s=30).verdict == "verified"
    found = kd.equivalent(f, g, cube(4), 0.8 * delta, "complete", timeout_s=30)
    assert found.verdict == "falsified"
    outputs = [Runtime(network)(found.counterexample[None]).double() for network in (f, g)]
    assert float((outputs[0] - outputs[1]).abs().max()) > 0.8 * delta


@pytest.mark.parametrize("steps", [2, 30])
def test_bounds_with_twins_hold_the_values_of_every_node(steps: int, deep: nn.Sequential) -> None:
    network = kd.difference(kd.from_torch(deep, (3,)), kd.from_torch(rounded(deep, steps), (3,)))
    region = cube(3)
    x = torch.rand(2000, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0)) * 2 - 1
    values = network.values(torch.cat([x, x.sign()]))
    rows = torch.tensor([[1.0, -1.0], [-3.0, 0.5], [1.0, 2.0]], dtype=torch.float64)
    for method in ("deeppoly", "krelu"):
        seen = kd.abstract(network, region, method)
        for name, bounds in seen.bounds.items():
            assert (values[name] >= bounds.lower - 1e-12).all()
            assert (values[name] <= bounds.upper + 1e-12).all()
        lower = seen.minimise(kd.Objective.linear(network, "difference", rows)).lower
        assert (values["difference"] @ rows.T >= lower - 1e-12).all()


def unjoined(first: kd.Network, second: kd.Network, monkeypatch: pytest.MonkeyPatch) -> kd.Network:
    with monkeypatch.context() as patch:
        patch.setattr("kreludomain.network.differences.joined_branches", lambda network: network)
        return kd.difference(first, second)


def test_joined_branches_compute_the_same_and_keep_names_and_bounds(deep, monkeypatch: pytest.MonkeyPatch) -> None:
    f, g = (kd.from_torch(module, (3,)) for module in (deep, rounded(deep, 30)))
    apart, joined = unjoined(f, g, monkeypatch), kd.difference(f, g)
    assert any(isinstance(node.operator, Concat) for node in joined.nodes)
    x = torch.rand(50, 3, dtype=torch.float64)
    before, after = apart.values(x), joined.values(x)
    assert all(torch.equal(before[name], after[name]) for name in before)
    wide, tight = (kd.bounds(network, cube(3), "deeppoly") for network in (apart, joined))
    for name in apart.pre_activations:
        assert (tight[name].lower >= wide[name].lower - 1e-9).all()
        assert (tight[name].upper <= wide[name].upper + 1e-9).all()
    assert tight["difference"].width.max() < 0.2 * wide["difference"].width.max()


def test_convolutional_branches_are_joined_by_channel() -> None:
    torch.manual_seed(1)
    conv = nn.Sequential(nn.Conv2d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(18, 2))
    network = kd.from_torch(Branches(conv, rounded(conv, 127)), (1, 5, 5))
    (name,) = network.pre_activations
    assert network[name].shape == (4, 3, 3)
    assert network.twins[name].tolist() == [[i, i + 18] for i in range(18)]
    region = kd.box(torch.zeros(1, 5, 5, dtype=torch.float64), torch.ones(1, 5, 5, dtype=torch.float64))
    claim = kd.within([0.0, 0.0], 0.1)
    assert kd.certify(network, region, claim, "krelu").verdict == "verified"


def test_parallel_relus_that_are_no_twins_stay_apart() -> None:
    network = kd.from_torch(Branches(dense(3, 8, 2, seed=1), dense(3, 8, 2, seed=5)), (3,))
    assert not any(isinstance(node.operator, Concat) for node in network.nodes)
    assert not network.twins


def test_branches_in_a_file_are_joined_when_it_is_read(tmp_path, small: nn.Sequential) -> None:
    network = kd.from_torch(Branches(small, rounded(small, 127)), (4,))
    path = tmp_path / "branches.onnx"
    path.write_bytes(kd.to_onnx(network))
    read = kd.load(path)
    assert len(read.pre_activations) == 1
    assert len(read.twins) == 1


def test_networks_of_two_files_are_replayed_each_in_its_own(tmp_path, small: nn.Sequential) -> None:
    """float32 and float64, a flat and a shaped input: what onnxruntime says of both files is what counts."""
    first, second = tmp_path / "first.onnx", tmp_path / "second.onnx"
    first.write_bytes(kd.to_onnx(kd.from_torch(small, (4,))))
    shaped = nn.Sequential(nn.Flatten(), *rounded(small, 5))
    second.write_bytes(kd.to_onnx(kd.from_torch(shaped, (1, 2, 2))))
    f, g = kd.load(first), kd.load(second)
    found = kd.equivalent(f, g, cube(4), 0.01)
    assert found.verdict == "falsified"
    outputs = []
    for path, shape in ((first, (1, 4)), (second, (1, 1, 2, 2))):
        session = onnxruntime.InferenceSession(str(path))
        x = found.counterexample.numpy().reshape(shape)
        outputs.append(session.run(None, {session.get_inputs()[0].name: x})[0].astype(np.float64))
    apart = float(np.abs(outputs[0] - outputs[1]).max())
    assert 0.01 < apart <= found.largest_difference[0] <= found.largest_difference[1]


@pytest.mark.parametrize(
    ("sizes", "said"),
    [((5, 10, 3), "inputs are of different shapes, (4,) and (5,)"), ((4, 10, 2), "outputs are of different shapes")],
)
def test_networks_that_do_not_fit_are_refused(sizes: tuple[int, ...], said: str, small: nn.Sequential) -> None:
    with pytest.raises(kd.InputError, match=said.replace("(", r"\(").replace(")", r"\)")):
        kd.difference(kd.from_torch(small, (4,)), kd.from_torch(dense(*sizes), sizes[:1]))


def test_a_softmax_at_the_end_of_one_of_them_is_refused(small: nn.Sequential) -> None:
    probabilities = kd.from_torch(nn.Sequential(*small, nn.Softmax(1)), (4,))
    with pytest.raises(kd.InputError, match="Softmax and nothing"):
        kd.difference(probabilities, kd.from_torch(small, (4,)))
    assert kd.difference(probabilities, probabilities).terms == (probabilities, probabilities)


@pytest.mark.filterwarnings("ignore:.*is left out")
def test_two_networks_with_a_softmax_are_compared_at_their_logits_and_say_so(small: nn.Sequential) -> None:
    probabilities = kd.from_torch(nn.Sequential(*small, nn.Softmax(1)), (4,))
    found = kd.equivalent(probabilities, probabilities, kd.box(-torch.ones(4), torch.ones(4)), 0.001, "deeppoly")
    (note,) = kd.difference(probabilities, probabilities).notes
    assert note == "both networks end in a Softmax, which is left out: their difference is that of the logits before it"
    assert found.notes[0] == note


def test_the_question_is_asked_of_two_networks(small: nn.Sequential) -> None:
    network = kd.from_torch(small, (4,))
    with pytest.raises(kd.InputError, match=r"networks: \[a.onnx, b.onnx\]"):
        kd.Equivalent(0.1).claim(network)
    claim = kd.Equivalent((0.1, 0.2, 0.3)).claim(kd.difference(network, network))
    assert claim.d.tolist() == [0.1, 0.1, 0.2, 0.2, 0.3, 0.3]


def config(tmp_path: Path, small: nn.Sequential, **keys: object) -> Path:
    for name, module in (("a", small), ("b", rounded(small, 127))):
        (tmp_path / f"{name}.onnx").write_bytes(kd.to_onnx(kd.from_torch(module, (4,))))
    given = {"networks": ["a.onnx", "b.onnx"], "region": {"box": [-1, 1]}, "claim": {"equivalent": 0.02}}
    path = tmp_path / "run.yaml"
    path.write_text(yaml.safe_dump({**given, "methods": ["deeppoly"], **keys}))
    return path


def test_two_networks_over_a_box_are_a_run(tmp_path: Path, small: nn.Sequential) -> None:
    study = Certify.prepare(Certify.load(config(tmp_path, small)))
    (task,) = study.tasks()
    row = study.compute(task, None).row
    assert row.verdict == "verified"
    region = study.around.region(task.sample)
    assert torch.equal(region.fit(study.network).lower, -torch.ones(1, 4, dtype=torch.float64))
    assert torch.equal(region.fit(study.network).upper, torch.ones(1, 4, dtype=torch.float64))
    again = tmp_path / "again.yaml"
    again.write_text(Certify.load(tmp_path / "run.yaml").resolved(tmp_path, {}))
    assert Certify.prepare(Certify.load(again)).contents() == study.contents()


@pytest.mark.parametrize(
    ("keys", "said"),
    [
        ({"network": "a.onnx"}, "networks: give network or networks, not both"),
        ({"claim": {"within": 1.0}}, "claim: of two networks it is how far they may differ, as in {equivalent: 0.01}"),
        ({"claim": {"equivalent": -1}}, "claim.equivalent: -1.0 is not a number from 0 up, or a list of them"),
        ({"networks": ["a.onnx"]}, "networks"),
        ({"data": {"name": "digits"}}, "data: region.box is about no samples; leave data out"),
        ({"region": {"epsilon": 0.1}}, "data: missing; of a box of inputs, region: {box: [low, high]}, there is none"),
        ({"region": {"box": [1, 0]}}, "region.box: [1, 0] is empty"),
        ({"region": {"box": [[0, 0, 0], 1]}}, "region.box[0]: 3 values, the network's input is 4; give 1 or 4"),
    ],
)
def test_mistakes_in_a_comparison_are_one_line(
    keys: dict[str, object], said: str, tmp_path: Path, small: nn.Sequential
) -> None:
    path = config(tmp_path, small, **keys)
    with pytest.raises(kd.InputError) as caught:
        Certify.prepare(Certify.load(path))
    assert str(caught.value).startswith(f"{path}: {said}")
    assert "\n" not in str(caught.value)
