"""The same work on a Ray that this test starts on this machine; skipped where Ray is not installed."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from test_cli import call, is_refused
from test_pool import misbehave
from test_run import answers, project

from kreludomain.run import commands
from kreludomain.run.cluster import ray_pool
from kreludomain.run.commands import Options
from kreludomain.run.worker import Done, Failure, Kind, Limits


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    ray = pytest.importorskip("ray")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")  # not last in line where other tests run too
    paths = ":".join([str(Path(__file__).parent), str(Path(__file__).parents[1])])
    monkeypatch.setenv("PYTHONPATH", paths)
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray
    ray.shutdown()


def test_limits_hold_and_rows_are_the_same_on_ray(ray: object, tmp_path: Path) -> None:
    with ray_pool(misbehave, None, 1, 10) as pool:
        assert pool.size == 2
        bad = {how: pool.submit(how, limits=Limits(2, 200)) for how in ("exits", "sleeps", "allocates", "raises")}
        good = [pool.submit("returns", limits=Limits(2, 200)) for _ in range(4)]
        kinds = {how: future.result(240) for how, future in bad.items()}
        assert all(isinstance(future.result(240), Done) for future in good)
    found = {how: answer.kind for how, answer in kinds.items() if isinstance(answer, Failure)}
    assert found == {"exits": Kind.CRASH, "sleeps": Kind.TIMEOUT, "allocates": Kind.MEMORY, "raises": Kind.ERROR}
    path = project(tmp_path, {"methods": ["interval", "deeppoly"]})
    commands.certify(path, Options(tmp_path / "here"))
    commands.certify(path, Options(tmp_path / "there", cluster="ray"))
    assert answers(tmp_path / "here") == answers(tmp_path / "there")


def test_without_ray_the_run_says_what_to_install(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = project(tmp_path)
    is_refused(call(capfd, "certify", path, "--cluster", "ray"), "ray is not installed; pip install 'kreludomain[ray]'")
