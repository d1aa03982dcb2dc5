"""The same work on a Ray that this test starts on this machine; skipped where Ray is not installed."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from slow_method import Slow
from test_cli import call, is_refused
from test_pool import misbehave
from test_resume import lines, slow_project, started, wait_until
from test_run import answers, project, rows_of

from kreludomain.run.certify.study import Certify
from kreludomain.run.engine.pool import ray_pool
from kreludomain.run.engine.runner import RunOptions, run_study
from kreludomain.run.engine.worker import Failure, Kind, Limits, Success
from kreludomain.verify import METHODS

#: Workers that are not last in line where other tests run too.
RAY = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_worker_niceness": "0"}


@pytest.fixture
def ray(monkeypatch: pytest.MonkeyPatch) -> Iterator[object]:
    ray = pytest.importorskip("ray")
    for name, value in RAY.items():
        monkeypatch.setenv(name, value)
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
        assert all(isinstance(future.result(240), Success) for future in good)
    found = {how: answer.kind for how, answer in kinds.items() if isinstance(answer, Failure)}
    assert found == {"exits": Kind.CRASH, "sleeps": Kind.TIMEOUT, "allocates": Kind.MEMORY, "raises": Kind.ERROR}
    path = project(tmp_path, {"methods": ["interval", "deeppoly"]})
    run_study(Certify, RunOptions(tmp_path / "here"), config=path)
    run_study(Certify, RunOptions(tmp_path / "there", cluster="ray"), config=path)
    assert answers(tmp_path / "here") == answers(tmp_path / "there")


def test_ctrl_c_ends_a_run_on_ray_too_with_everything_saved(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setitem(METHODS, "slow", Slow)
    slow_project(tmp_path)
    running = started(tmp_path, "--cluster", "ray", "--workers", "1", **RAY)
    wait_until(lambda: lines(tmp_path / "out") >= 1, 120)
    start = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)
    running.wait(timeout=30)
    assert time.monotonic() - start < 10
    _, err = running.communicate(timeout=10)
    saved = lines(tmp_path / "out")
    assert running.returncode == 130
    how = "go on with: kreludomain certify run.yaml --resume\n"
    assert err.endswith(f"stopped: {saved} rows are in out/results.jsonl; {how}")
    run_study(Certify, RunOptions(resume=True), config=tmp_path / "run.yaml")
    assert len(rows_of(tmp_path / "out")) == 12


def test_without_ray_the_run_says_what_to_install(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    path = project(tmp_path)
    is_refused(call(capfd, "certify", path, "--cluster", "ray"), "ray is not installed; pip install 'kreludomain[ray]'")
