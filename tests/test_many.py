"""Many samples from Python: what a script without a guard gets, and what is refused before anything is computed."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from networks import dense, inputs

import kreludomain as kd
from kreludomain.run.many import _named_methods

#: A script as people write them: no ``if __name__ == "__main__"``, classes and functions of its own.
SCRIPT = """
import json, sys
import torch
import kreludomain as kd
from networks import dense, inputs

print("the script runs")


class Own(kd.Method):
    def abstract(self, query):
        return kd.DeepPoly().abstract(query)


class Broken(kd.Method):
    def abstract(self, query):
        if query.network.input.shape == (2,):  # the try before anything is computed
            return kd.DeepPoly().abstract(query)
        raise RuntimeError("no bounds today")


network = dense(3, 5, 2, seed=3)
x = inputs(network, 4, seed=1)
labels = network(x).argmax(1)
labels[3] = 1 - labels[3]
seen = []
methods = {"own": Own(), "deeppoly": "deeppoly", "broken": Broken()}
results = kd.certify_many(
    network,
    (x, labels),
    region=lambda sample: kd.ball(sample.x, 0.01 if sample.index < 2 else 50.0),
    methods=methods,
    progress=lambda done, total, row: seen.append((done, total)),
    workers=2,
    timeout_s=20,
    output=sys.argv[1],
)
print(json.dumps([[row.index, row.method, row.verdict, row.margin] for row in results]))
print(json.dumps(seen))
print(json.dumps([list(results.counterexample(row).shape) for row in results if row.counterexample]))
print(json.dumps(repr(results)))


def stop(done, total, row):
    if done == 2:
        raise KeyboardInterrupt


try:
    kd.compare(network, (x, labels), 0.01, methods="interval", workers=1, progress=stop)
except kd.Interrupted as interrupted:
    print(json.dumps([str(interrupted), len(interrupted.results)]))
"""


@pytest.fixture(scope="module")
def printed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("script")
    (folder / "script.py").write_text(SCRIPT)
    command = [sys.executable, str(folder / "script.py"), str(folder / "out")]
    paths = [str(Path(kd.__file__).parents[1]), str(Path(__file__).parent)]
    done = subprocess.run(
        command,
        env={"PYTHONPATH": ":".join(paths), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert done.returncode == 0, done.stderr
    return folder, done.stdout.splitlines()


def test_a_script_without_a_guard_runs_once_and_gets_every_row(printed: tuple[Path, list[str]]) -> None:
    folder, lines = printed
    assert (lines[0], len(lines)) == ("the script runs", 6)
    rows = json.loads(lines[1])
    verdicts = {(index, method): verdict for index, method, verdict, _ in rows}
    assert [(index, method) for index, method, *_ in rows] == [
        (index, method) for index in range(4) for method in ("own", "deeppoly", "broken")
    ]
    for method in ("own", "deeppoly"):
        assert [verdicts[index, method] for index in range(4)] == ["verified", "verified", "falsified", "misclassified"]
    assert [verdicts[index, "broken"] for index in range(4)] == ["error", "error", "error", "misclassified"]
    margins = {(index, method): margin for index, method, _, margin in rows}
    assert margins[0, "own"] == margins[0, "deeppoly"] > 0
    assert json.loads(lines[2]) == [[done, 12] for done in range(1, 13)]
    assert json.loads(lines[3]) == [[3], [3]]
    table = json.loads(lines[4])
    assert all(name in table for name in ("own", "deeppoly", "broken", "verified", "4 samples, 12 rows"))
    assert len((folder / "out" / "results.jsonl").read_text().splitlines()) == 12
    assert len(list((folder / "out" / "counterexamples").iterdir())) == 2


def test_ctrl_c_leaves_what_there_is(printed: tuple[Path, list[str]]) -> None:
    assert json.loads(printed[1][5]) == ["stopped: 2 of 4 rows are in the exception's .results", 2]


def test_what_does_not_fit_is_one_line_before_anything_is_computed() -> None:
    network = dense(3, 5, 2, seed=3)
    x = inputs(network, 2, seed=1)
    data = (x, torch.tensor([0, 1]))

    def refused(text: str, *arguments: object, **options: object) -> None:
        with pytest.raises(kd.InputError) as caught:
            kd.certify_many(network, *arguments, **options)
        assert str(caught.value).startswith(text)

    refused("epsilon: give one of epsilon, epsilons and region", data, 0.1, epsilons=[0.1])
    refused("sample 0: epsilon: missing; give epsilon, epsilons or region", data)
    refused("sample 0: region: gives int, a region is expected", data, region=lambda sample: 3)
    refused("epsilons: 'x' is not a number", data, epsilons=["x"])
    refused("sample 0: ", data, 0.1, kd.claim(torch.zeros(1, 7)))
    refused("methods[1]: 'deepoly' is not one of interval", data, 0.1, methods=["interval", "deepoly"])
    refused("methods: should have at least one item", data, 0.1, methods=[])
    refused("workers: 0 is not a number above 0", data, 0.1, workers=0)
    refused("sample 0: the sample has no label", x, 0.1)
    with pytest.raises(kd.InputError, match="tight: compare always is"):
        kd.compare(network, data, 0.1, tight=False)


def test_methods_have_labels_that_differ() -> None:
    given = ["krelu", {"name": "krelu-lp", "k": 2}, kd.KRelu(preset="fast"), kd.Zonotope()]
    assert [method.label for method in _named_methods(given)] == ["krelu", "krelu-lp k=2", "krelu (2)", "zonotope"]
    assert [method.label for method in _named_methods({"mine": kd.Interval(), "b": "deeppoly"})] == ["mine", "b"]
    assert [method.label for method in _named_methods({"name": "lp", "refine": "all"})] == ["lp refine=all"]


def test_results_are_a_sequence_and_a_data_frame() -> None:
    from kreludomain.run.certify.rows import CertifyRow

    rows = tuple(CertifyRow(index, 0, 0, "deeppoly", kd.Verdict.UNKNOWN, margin=-1.0) for index in range(3))
    results = kd.Results(rows, _named_methods("deeppoly"))
    assert (len(results), results[1].index, [row.index for row in results]) == (3, 1, [0, 1, 2])
    assert results.summary()[0].verdicts[kd.Verdict.UNKNOWN] == 3
    assert results.counterexample(results[0]) is None
    if "pandas" in sys.modules or _has_pandas():
        assert list(results.to_pandas()["margin"]) == [-1.0, -1.0, -1.0]
    else:
        with pytest.raises(kd.InputError, match="to_pandas: pandas is not installed"):
            results.to_pandas()


def _has_pandas() -> bool:
    try:
        import pandas  # noqa: F401
    except ImportError:
        return False
    return True
