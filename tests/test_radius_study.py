"""``kreludomain radius``: rows, certified accuracy, epsilon sweeps, regions of every shape, what is refused."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest
from test_cli import call, is_refused
from test_run import project

import kreludomain as kd
from kreludomain.run.radius.rows import ATTACK, RadiusRow, accuracy, contradictions, summarise
from kreludomain.run.radius.study import RadiusStudy

ROOT = Path(__file__).parents[1]


def study(folder: Path, **changes: Any) -> RadiusStudy:
    """Of two samples, the last one misclassified."""
    keys = {"methods": ["deeppoly"], "data": {"csv": "data.csv", "first": 4}, "region": {"norm": "inf", "clip": [0, 1]}}
    return RadiusStudy.prepare(RadiusStudy.load(project(folder, keys | {"attack": {"rounds": 0}} | changes)))


def rows_of(made: RadiusStudy) -> list[RadiusRow]:
    """The rows, computed here."""
    found: dict[Any, RadiusRow] = {}
    for task in made.tasks():
        found[task.key] = made.compute(task, None if task.needs is None else found[task.needs]).row
    return list(found.values())


def test_methods_share_the_counterexamples_of_a_sample(tmp_path: Path) -> None:
    rows = rows_of(study(tmp_path, methods=["interval", "deeppoly"], region={"epsilons": [0.02], "clip": [0, 1]}))
    assert [row.method for row in rows[:3]] == [ATTACK, "interval", "deeppoly"]
    for attack, interval, deeppoly in zip(rows[::3], rows[1::3], rows[2::3], strict=True):
        assert attack.certified is None
        assert attack.attacked == interval.attacked == deeppoly.attacked
        if attack.misclassified:
            assert (interval.certified, interval.attacked, interval.outcome) == (0.0, 0.0, "misclassified")
            continue
        assert 0 < (interval.certified or 0) <= (deeppoly.certified or 0) < (attack.attacked or 0)
        assert (attack.attacks > 0, interval.attacks, deeppoly.attacks) == (True, 0, 0)
        assert 0.02 in [epsilon for epsilon, _, _ in interval.trials]
        assert interval.counterexample == attack.counterexample is not None
    assert [row.misclassified for row in rows] == [False] * 3 + [True] * 3
    assert contradictions(rows) == []


def test_a_sweep_only_decides_the_given_epsilons(tmp_path: Path) -> None:
    made = study(tmp_path, region={"epsilons": [0.2, 0.001, 0.1]}, bisect=False, attack=False)
    assert made.epsilons == (0.001, 0.1, 0.2)
    rows = rows_of(made)
    assert [row.method for row in rows] == ["deeppoly"] * 2
    for row in rows[:1]:
        assert {epsilon for epsilon, _, _ in row.trials} <= {0.001, 0.1, 0.2}
        assert row.certified in (0.001, 0.1, 0.2)
    whole = rows_of(study(tmp_path, region={"epsilons": [0.001, 0.1, 0.2]}, attack=False))
    at = [summarise(["deeppoly"], each, made.epsilons, 0.01)[0].accuracy for each in (rows, whole)]
    assert at[0] == at[1]


def test_an_epsilon_for_each_entry_is_what_a_radius_of_one_is(tmp_path: Path) -> None:
    plain, scaled = (
        rows_of(study(tmp_path, attack=False, region={"clip": [0, 1], **region}))
        for region in ({}, {"epsilon": [0.5, 0.5, 0.5, 0.5]})
    )
    for one, other in zip(plain[:1], scaled[:1], strict=True):
        assert other.certified == pytest.approx(2 * (one.certified or 0), rel=0.03)
    assert study(tmp_path, region={"epsilon": [0.5, 0.5, 0.5, 0.5]}).epsilons == (1.0,)
    assert study(tmp_path, region={"epsilon": 0.25}).epsilons == (0.25,)  # a configuration of certify is one of radius


def test_certified_accuracy_falls_where_radii_end() -> None:
    def row(index: int, method: str, certified: float | None, attacked: float | None, wrong: bool = False) -> RadiusRow:
        return RadiusRow(index, 0, 0, method, certified, attacked, wrong)

    rows = [
        *(row(0, ATTACK, None, 0.3), row(0, "m", 0.2, 0.3)),
        *(row(1, ATTACK, None, None), row(1, "m", 0.0, None)),
        *(row(2, ATTACK, None, 0.0, True), row(2, "m", 0.0, 0.0, True)),
        *(row(3, ATTACK, None, 0.3), row(3, "m", None, None)),  # failed
    ]
    curves = accuracy(["m"], rows)
    (certified,) = curves.certified
    assert [certified(epsilon) for epsilon in (0.0, 0.1, 0.2, 0.21)] == [0.75, 0.25, 0.25, 0.0]
    assert [curves.attacked(epsilon) for epsilon in (0.0, 0.3, 0.31)] == [0.75, 0.75, 0.25]
    (summary,) = summarise(["m"], rows, [0.1], 0.01)
    assert (summary.median_radius, summary.mean_radius, summary.closed) == (0.0, 0.05, 0.25)
    assert summary.accuracy == {"0.1": 0.25}
    (found,) = contradictions([*rows, row(0, "other", 0.35, math.inf)])
    assert found == "sample 0: other certifies 0.35, a counterexample is at 0.3"


def test_what_does_not_fit_is_one_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    def refused(text: str, **changes: Any) -> None:
        keys = {"region": {"clip": [0, 1]}, "methods": ["interval"], "data": {"csv": "data.csv", "first": 3}}
        path = project(tmp_path, keys | changes)
        is_refused(call(capfd, "radius", path, "--output", tmp_path / "out"), text)

    refused("run.yaml: largest: 'far' is not a number or a fraction", largest="far")
    refused("run.yaml: largest: 0 is not a number above 0", largest=0)
    refused("run.yaml: bisect: nothing is left to do; region.epsilons says at which", bisect=False)
    refused("run.yaml: methods[0]: 'attack' is the label of the search", methods=[{"name": "lp", "label": "attack"}])
    refused("run.yaml: region.epsilons[1]: ", region={"epsilons": [0.1, "x"]})
    refused("run.yaml: tolerence: unknown key; known are ", tolerence=0.1)


def test_the_example_and_the_page_are_ready_to_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = RadiusStudy.prepare(RadiusStudy.load(ROOT / "configs" / "radius.yaml"))
    assert len(made.tasks()) == 10 * 4
    page = (ROOT / "docs" / "radius.md").read_text(encoding="utf-8")
    (text,) = re.findall(r"```yaml\n(.*?)```", page, flags=re.DOTALL)
    (tmp_path / "configs").symlink_to(ROOT / "configs")
    (tmp_path / "radius.yaml").write_text(text)
    assert len(RadiusStudy.prepare(RadiusStudy.load(tmp_path / "radius.yaml")).tasks()) == 10 * 4
    monkeypatch.chdir(ROOT)
    (code,) = re.findall(r"```python\n(.*?)```", page, flags=re.DOTALL)
    names: dict[str, Any] = {}
    exec(code, names)
    assert isinstance(names["found"], kd.Radius)
    assert 0 < names["found"].certified < names["found"].attacked
