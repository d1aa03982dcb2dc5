"""The contract of a method, run over every entry of the table: a new one is in this suite by being in ``METHODS``."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import MISSING, is_dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from exact import exact_minima
from networks import CURVED, ZOO, conv, dense, residual
from torch import Tensor

import kreludomain as kd
from kreludomain.activations import Relu
from kreludomain.groups import NoGroups
from kreludomain.network.operators import Activation, Input, Linear
from kreludomain.property import Objective
from kreludomain.run.config.methods import named_method

#: Options that make a method small enough to run here, and another side of it; every method also runs as it is.
VARIANTS: dict[str, list[dict[str, Any]]] = {
    "lp": [{"refine": "all"}],
    "krelu-lp": [{"k": 2, "partition_size": 6, "refine": "all"}, {"k": 3, "partition_size": 5, "base": "zonotope"}],
    "krelu": [
        {"preset": "fast", "k": 2, "dtype": "float64"},
        {"preset": "tight", "grouping": "correlation", "partition_size": 8},
    ],
}
CASES = [(name, options) for name in kd.METHODS for options in [{}, *VARIANTS.get(name, [])]]
methods = pytest.mark.parametrize(
    ("name", "options"), CASES, ids=[" ".join([n, *(f"{k}={v}" for k, v in o.items())]) for n, o in CASES]
)

NETWORKS = {
    "dense": dense(4, 8, 6, 3, seed=1),
    "integer weights": dense(4, 6, 6, 3, seed=1, integer=True),
    "conv": conv(),
    "residual": residual(),
    **{name: ZOO[name]() for name in ("pooled", "leaky", "clipped")},
    **{name: make() for name, make in CURVED.items()},
}
REGIONS: dict[str, dict[str, Any]] = {
    "l_inf": {"epsilon": 0.15},
    "l_inf, clipped": {"epsilon": 0.3, "clip": (0.3, 0.6)},
    "l_1": {"epsilon": 0.4, "norm": "1"},
    "l_2, clipped": {"epsilon": 0.3, "norm": "2", "clip": (0.2, 0.9)},
    "a point": {"epsilon": 0.0},
    "wide": {"epsilon": 30.0},
}

#: Every region on the small networks, two kinds of region on the larger ones.
QUESTIONS = [(n, r) for n in ("dense", "integer weights") for r in REGIONS if r != "wide"]
QUESTIONS += [(n, r) for n in ("conv", "residual") for r in ("l_inf", "l_2, clipped")]
QUESTIONS += [(n, "l_inf") for n in ("pooled", "leaky", "clipped", "sigmoid", "tanh", "mixed")]
QUESTIONS += [(n, "wide") for n in ("sigmoid", "tanh", "mixed")]
questions = pytest.mark.parametrize(
    ("network", "region_name"), [(NETWORKS[n], r) for n, r in QUESTIONS], ids=[f"{n}-{r}" for n, r in QUESTIONS]
)


def region_of(network: kd.Network, name: str) -> kd.Region:
    return kd.ball(torch.full((1, *network.input.shape), 0.5, dtype=torch.float64), **REGIONS[name])


@methods
@questions
def test_nothing_that_occurs_is_cut_off(
    name: str, options: dict[str, Any], network: kd.Network, region_name: str
) -> None:
    """Values of every node at sampled points lie in its bounds; linear expressions lie above their minima."""
    region = region_of(network, region_name)
    abstraction = kd.abstract(network, region, name, **options)
    points = torch.cat([region.sample(300, torch.Generator().manual_seed(0)), region.center])
    values = network.values(points)
    for node, bounds in abstraction.bounds.items():
        slack = 1e-9 * (1 + values[node].abs())
        assert (values[node] >= bounds.lower - slack).all()
        assert (values[node] <= bounds.upper + slack).all()
    for node in (network.output.name, network.pre_activations[-1]):
        size = network.size(node)
        rows = torch.randn(4, size, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
        minima = abstraction.minimise(Objective.linear(network, node, rows)).lower
        smallest = (values[node].flatten(1) @ rows.T).amin(0)
        assert (minima <= smallest + 1e-9 * (1 + smallest.abs())).all()


@pytest.fixture(scope="module")
def enumerated() -> tuple[kd.Network, kd.Region, Tensor, Tensor]:
    """A network, a region, rows, and the rows' exact minima over the outputs."""
    network, region = dense(3, 5, 4, 2, seed=5), kd.ball(torch.zeros(1, 3), 0.8)
    rows = torch.tensor([[1.0, -1.0], [-1.0, 0.5]], dtype=torch.float64)
    return network, region, rows, exact_minima(network, region, rows)


@methods
def test_never_above_the_exact_minimum(
    name: str, options: dict[str, Any], enumerated: tuple[kd.Network, kd.Region, Tensor, Tensor]
) -> None:
    network, region, rows, exact = enumerated
    abstraction = kd.abstract(network, region, name, **options)
    minima = abstraction.minimise(Objective.linear(network, network.output.name, rows))
    assert (minima.lower[0] <= exact + 1e-7).all()


@methods
def test_proving_is_as_sound_and_decides_the_same(name: str, options: dict[str, Any]) -> None:
    network, region = NETWORKS["dense"], region_of(NETWORKS["dense"], "l_inf")
    abstraction = kd.abstract(network, region, name, **options)
    objective = kd.robustness(int(network(region.center).argmax()), 3).objective(network)
    best, proof = abstraction.minimise(objective).lower, abstraction.prove(objective).lower
    assert ((best > 0) == (proof > 0)).all()
    assert (proof <= best + 1e-9).all()


@methods
def test_what_is_known_is_kept(name: str, options: dict[str, Any]) -> None:
    network, region = NETWORKS["dense"], region_of(NETWORKS["dense"], "l_inf, clipped")
    values = network.values(region.sample(20_000, torch.Generator().manual_seed(0)))
    known = {
        node: kd.Bounds(values[node].amin(0)[None] - 0.05, values[node].amax(0)[None] + 0.05)
        for node in network.pre_activations
    }
    bounds = kd.bounds(network, region, name, prior_bounds=known, **options)
    for node, (low, high) in {n: (k.lower, k.upper) for n, k in known.items()}.items():
        assert (bounds[node].lower >= low - 1e-12).all()
        assert (bounds[node].upper <= high + 1e-12).all()


@methods
def test_stable_networks_are_exact(name: str, options: dict[str, Any]) -> None:
    """Over one point there is nothing to relax: bounds and minima are the values."""
    network = NETWORKS["dense"]
    region = region_of(network, "a point")
    abstraction = kd.abstract(network, region, name, **options)
    for node, value in network.values(region.center).items():
        torch.testing.assert_close(abstraction.bounds[node].lower, value, rtol=1e-8, atol=1e-8)
        torch.testing.assert_close(abstraction.bounds[node].upper, value, rtol=1e-8, atol=1e-8)


@methods
def test_a_clause_is_proved_by_one_row(name: str, options: dict[str, Any]) -> None:
    """y = (ReLU(x), x + 4) for x in [-1, 1]: what each clause claims is plain."""
    nodes = (
        kd.Node("input", Input((1,))),
        kd.Node("hidden", Linear(torch.ones(2, 1).double(), torch.tensor([0.0, 4.0]).double(), (1,)), ("input",)),
        kd.Node("relu", Activation(Relu(), (2,)), ("hidden",)),
        kd.Node("output", Linear(torch.eye(2).double(), None, (2,)), ("relu",)),
    )
    network, region = kd.Network(nodes), kd.box(-torch.ones(1, 1), torch.ones(1, 1))

    def verdict(rows: list[list[float]], d: list[float], clause: list[int], weak: list[bool]) -> str:
        claim = kd.Claim(*(torch.tensor(v).double() for v in (rows, d)), torch.tensor(clause), torch.tensor(weak))
        return str(kd.certify(network, region, claim, name, **options).verdict)

    never, always, zero = [1.0, 0.0], [0.0, 1.0], [1.0, 0.0]
    assert verdict([never, always], [-2.0, 0.0], [0, 0], [False, False]) == "verified"
    assert verdict([never, always], [-2.0, 0.0], [0, 1], [False, False]) == "falsified"
    assert verdict([always, never, never], [0.0, -2.0, -3.0], [1, 0, 0], [False] * 3) == "falsified"
    assert verdict([zero], [0.0], [0], [False]) == "falsified"
    assert verdict([zero], [0.0], [0], [True]) != "falsified"
    assert verdict([zero, always], [0.0, -6.0], [0, 0], [True, True]) != "falsified"
    if name == "deeppoly":
        assert verdict([zero, always], [1e-12, -6.0], [0, 0], [True, False]) == "verified"  # what rounding may cost


def test_methods_are_frozen() -> None:
    for made in kd.METHODS.values():
        method = made()
        with pytest.raises(AttributeError):
            method.anything = 1


def choices(kind: type[Any]) -> Iterator[dict[str, Any]]:
    """Every named value of every option, of options within options too; the names are those that an error lists."""
    for name, option in kind.__dataclass_fields__.items():
        made = option.default_factory() if option.default_factory is not MISSING else None
        if is_dataclass(made):
            yield from ({name: inner} for inner in choices(type(made)))
        elif "str" in option.type:
            with pytest.raises(kd.InputError) as caught:
                kind(**{name: "no such value"})
            _, _, values = str(caught.value).partition("is not one of ")
            yield from ({name: value} for value in values.split(", ") if value)


CHOICES = [(name, choice) for name, kind in kd.METHODS.items() for choice in choices(kind)]


@pytest.mark.parametrize(("name", "options"), CHOICES, ids=[f"{n} {o}" for n, o in CHOICES])
def test_every_named_value_of_an_option_is_sound(
    name: str, options: dict[str, Any], enumerated: tuple[kd.Network, kd.Region, Tensor, Tensor]
) -> None:
    network, region, rows, exact = enumerated
    minima = kd.abstract(network, region, name, **options).minimise(
        Objective.linear(network, network.output.name, rows)
    )
    assert (minima.lower[0] <= exact + 1e-7).all()


def test_the_readme_names_values_that_there_are() -> None:
    """``option: one, another`` in the table of methods."""
    table = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
    for name, kind in kd.METHODS.items():
        row = next(line for line in table.splitlines() if line.startswith(f"| `{name}` |"))
        there = [(option, value) for choice in choices(kind) for option, value in choice.items()]
        said = re.findall(r"`(\w+)`: ([a-z, ]+)", row.rpartition("|")[0].rpartition("|")[2])
        for option, values in said:
            for value in re.split(r", (?:or .*)?", values):
                assert not value.strip() or (option, value.strip()) in there, (name, option, value)


# Options --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "options", "text"),
    [
        ("krelu", {"k": "3"}, "k: input should be a whole number, not '3'"),
        ("krelu", {"k": True}, "k: input should be a whole number, not True"),
        ("krelu", {"steps": 2.5}, "steps: input should be a whole number, not 2.5"),
        ("krelu", {"grouping": 3}, "grouping: input should be text, not 3"),
        ("krelu", {"preset": "x"}, "preset: 'x' is not one of fast, balanced, tight"),
        ("lp", {"solver": 3, "memory_mb": None}, "solver: input should be text, not 3; memory_mb: input should be"),
        ("deeppoly", {"neurons": ["all"]}, r"neurons: input should be text, not \['all'\]"),
    ],
)
def test_options_are_checked_in_python_in_the_words_of_yaml(name: str, options: dict[str, object], text: str) -> None:
    with pytest.raises(kd.InputError, match=f"^{text}"):
        kd.METHODS[name](**options)
    with pytest.raises(kd.InputError, match=f"^x: {text}"):
        named_method({"name": name, **options}, "x")


def test_a_whole_number_is_a_number_and_a_grouping_an_object() -> None:
    grouping = NoGroups()
    made = kd.KRelu(gain_factor=2, grouping=grouping)
    assert isinstance(made.gain_factor, float)
    assert made.grouping is grouping
    with pytest.raises(kd.InputError, match=r"^refinement: input should be an object of Refinement, not 3"):
        kd.Refined(3)  # type: ignore[arg-type]
    text = "grouping: input should be a name or an object of Grouping, not <built-in"
    with pytest.raises(kd.InputError, match=f"^{text}"):
        kd.KRelu(grouping=len)  # type: ignore[arg-type]
