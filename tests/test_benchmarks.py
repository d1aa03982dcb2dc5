"""Published networks: what is known of them is found again. Runs where the benchmark folder is."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

import kreludomain as kd

ROOT = Path(__file__).resolve().parents[1]
FOLDER = ROOT.parent / "shared" / "benchmarks" / "eran"
sys.path.append(str(ROOT / "scripts"))

from bench_networks import picture  # noqa: E402
from compare_single_neuron import BENCHMARKS, images  # noqa: E402

pytestmark = pytest.mark.skipif(not FOLDER.is_dir(), reason=f"no benchmark folder at {FOLDER.name} beside the project")

#: Images out of the first 100 that DeepPoly verifies, by public tools.
VERIFIED = {"mnist_6x100": 22, "mnist_9x100": 19, "mnist_6x200": 34, "mnist_convsmall": 17, "cifar_convsmall": 34}


@pytest.mark.parametrize("benchmark", BENCHMARKS, ids=lambda b: b.network)
def test_deeppoly_verifies_as_many_as_published_tools(benchmark) -> None:  # type: ignore[no-untyped-def]
    network = kd.load(FOLDER / "nets" / f"{benchmark.network}.onnx")
    verified = {"deeppoly": 0, "interval": 0}
    methods: dict[str, kd.Method] = {"deeppoly": kd.DeepPoly(neurons="unstable"), "interval": kd.Interval()}
    for _, label, x in images(FOLDER, benchmark, network):
        region, objective = kd.ball(x, benchmark.epsilon, clip=(0, 1)), kd.robustness(label, 10).objective(network)
        for name, method in methods.items():
            verified[name] += bool((method.abstract(kd.Query(network, region)).minimise(objective).lower > 0).all())
    assert verified == {"deeppoly": VERIFIED[benchmark.network], "interval": 0}


def test_the_joint_relaxation_on_mnist_6x100() -> None:
    """Image 3 (label 0), radius 0.026: the worst margin, class 2, by DeepPoly, triangles and groups of three."""
    network = kd.load(FOLDER / "nets" / "mnist_6x100.onnx")
    index, label, x = next(image for image in images(FOLDER, BENCHMARKS[0], network) if image[0] == 3)
    assert (index, label) == (3, 0)
    region = kd.ball(x, 0.026, clip=(0, 1))
    claim = kd.robustness(label, 10)
    worst = kd.claim(claim.C[1:2]).objective(network)
    methods: list[kd.Method] = [kd.DeepPoly(), kd.TriangleLP(), kd.KReluLP(k=3, partition_size=20, overlap=1)]
    margins = torch.stack(
        [method.abstract(kd.Query(network, region)).minimise(worst).lower[0, 0] for method in methods]
    )
    torch.testing.assert_close(margins, torch.tensor([0.507, 0.613, 2.272], dtype=torch.float64), rtol=0, atol=2e-3)
    assert (
        float(kd.DeepPoly().abstract(kd.Query(network, region)).minimise(claim.objective(network)).lower.argmin()) == 1
    )


#: One network of every family, and the radius of a ball in which each has something to relax.
FAMILIES = {
    "acasxu/ACASXU_run2a_1_1_batch_2000.onnx": 0.02,
    "cifar10_resnet/onnx/resnet_2b.onnx": 0.0005,
    "eran/nets/ffnnSIGMOID__Point_6x200.onnx": 0.01,
    "mnistfc/mnist-net_256x2.onnx": 0.01,
    "oval21/nets/cifar_base_kw.onnx": 0.002,
    "verivital/Convnet_avgpool.onnx": 0.001,
    "verivital/Convnet_maxpool.onnx": 0.0001,
}


@pytest.mark.parametrize("name", FAMILIES, ids=lambda name: Path(name).stem)
def test_every_family_is_bounded(name: str) -> None:
    """Sampled outputs lie within DeepPoly's and the dual's bounds, and the dual is at least as tight."""
    network = kd.load(FOLDER.parent / "vnncomp2021" / name)
    region = kd.ball(picture(network), FAMILIES[name])
    label = int(network(region.center).argmax())
    objective = kd.robustness(label, network.size(network.output.name)).objective(network)
    points = region.sample(200, torch.Generator().manual_seed(0))
    smallest = objective.evaluate(network(points)).amin(0)
    methods: list[kd.Method] = [
        kd.Interval(),
        kd.DeepPoly(neurons="unstable"),
        kd.KRelu(preset="fast", steps=10, partition_size=3, overlap=0),
    ]
    lower = [method.abstract(kd.Query(network, region)).minimise(objective).lower[0] for method in methods]
    assert (lower[0] <= lower[1] + 1e-9).all()
    assert (lower[1] <= lower[2]).all()
    assert (lower[2] <= smallest).all()
