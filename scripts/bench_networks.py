"""Loading and bounding every ONNX file below a folder: seconds, and the worst margin of the class in the middle.

    python scripts/bench_networks.py FOLDER [--epsilon 0.004] [--methods deeppoly:neurons=unstable krelu:preset=fast]

The region is an l_inf ball around a smooth picture (or around 0 where there are few inputs).
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch
from compare_single_neuron import parsed

import kreludomain as kd


def picture(network: kd.Network) -> torch.Tensor:
    """An input ``(1, *input_shape)``: a bright spot in the middle, as far as there is a middle."""
    shape = network.input.shape
    size = network.size(network.input.name)
    if size < 20:
        return torch.zeros(1, *shape, dtype=torch.float64)
    rows = next(side for side in range(int(size**0.5) + 1, 0, -1) if size % side == 0)
    y, x = (torch.linspace(-3, 3, side, dtype=torch.float64) for side in (rows, size // rows))
    return torch.exp(-(y[:, None] ** 2 + x**2)).reshape(1, *shape)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epsilon", type=float, default=0.004)
    parser.add_argument("--methods", nargs="+", default=["interval", "deeppoly", "krelu:preset=fast"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for path in sorted(p for p in options.folder.rglob("*") if p.name.endswith((".onnx", ".onnx.gz"))):
        start = time.perf_counter()
        network = kd.load(path)
        found = [f"loaded in {time.perf_counter() - start:.3f} s"]
        region = kd.ball(picture(network), options.epsilon)
        label = int(network(region.center).argmax())
        objective = kd.robustness(label, network.size(network.output.name)).objective(network)
        for text in options.methods:
            start = time.perf_counter()
            lower = parsed(text).method.abstract(kd.Query(network, region)).minimise(objective).lower
            found.append(f"{text} {float(lower.min()):.4g} in {time.perf_counter() - start:.2f} s")
        print(f"{path.relative_to(options.folder)}: {', '.join(found)}", flush=True)


if __name__ == "__main__":
    main()
