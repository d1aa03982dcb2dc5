"""Runs that are killed, interrupted, resumed, watched or started twice, as the processes that they are."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import typer
import yaml
from filelock import FileLock, Timeout
from networks import dense
from slow_method import Slow
from test_cli import ENVIRONMENT, call, is_refused, process
from test_run import answers, project, rows_of

from kreludomain import InputError, to_onnx
from kreludomain.run.certify.study import Certify
from kreludomain.run.engine.folder import LOCK, Folder, session
from kreludomain.run.engine.runner import RunOptions, run_study
from kreludomain.verify import METHODS

PATHS = os.pathsep.join([ENVIRONMENT["PYTHONPATH"], str(Path(__file__).parent)])


def slow_project(folder: Path) -> Path:
    return project(folder, {"methods": ["deeppoly", "slow"], "region": {"epsilon": 0.3}})


def started(folder: Path, *arguments: str, **environment: str) -> subprocess.Popen[str]:
    """``kreludomain certify run.yaml ARGUMENTS`` in a session of its own, where its processes can be counted."""
    environment = ENVIRONMENT | {"PYTHONPATH": PATHS} | environment
    return subprocess.Popen(
        [sys.executable, "-m", "slow_method", "certify", "run.yaml", *arguments],
        **{"cwd": folder, "env": environment, "text": True, "start_new_session": True},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.02)


def lines(folder: Path) -> int:
    path = folder / "results.jsonl"
    return path.read_bytes().count(b"\n") if path.exists() else 0


def session_of(process_id: int) -> list[int]:
    """The processes that live in a session, zombies left out."""
    found = []
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            state, _, _, session = path.read_text().rpartition(")")[2].split()[:4]
        except (FileNotFoundError, ProcessLookupError):
            continue
        if int(session) == process_id and state != "Z":
            found.append(int(path.parent.name))
    return found


@pytest.fixture(autouse=True)
def _slow(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(METHODS, "slow", Slow)


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a run that nothing has interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(METHODS, "slow", Slow)
        run_study(Certify, RunOptions(workers=1), config=slow_project(folder))
    return folder


def test_killed_in_the_middle_of_a_line_and_resumed_is_as_never_killed(tmp_path: Path, whole: Path) -> None:
    slow_project(tmp_path)
    out = tmp_path / "out"
    running = started(tmp_path, "--workers", "2")
    wait_until(lambda: lines(out) >= 3)
    running.send_signal(signal.SIGKILL)
    running.communicate(timeout=10)
    assert running.returncode == -signal.SIGKILL
    wait_until(lambda: not session_of(running.pid), 5)  # no worker outlives its run
    kept = (out / "results.jsonl").read_text().splitlines(keepends=True)
    assert 3 <= len(kept) < 12
    (out / "results.jsonl").write_text("".join(kept[:-1]) + kept[-1][: len(kept[-1]) // 2])
    run_study(Certify, RunOptions(resume=True, workers=2), config=tmp_path / "run.yaml")
    assert answers(out) == answers(whole / "out")
    assert (out / "results.jsonl").read_text().startswith("".join(kept[:-1]))
    assert yaml.safe_load((out / "config.yaml").read_text())["methods"][1]["seconds"] == 0.3


def test_ctrl_c_ends_a_run_at_once_and_says_how_to_go_on(tmp_path: Path, whole: Path) -> None:
    slow_project(tmp_path)
    running = started(tmp_path, "--output", "my runs", "--workers", "2")
    wait_until(lambda: lines(tmp_path / "my runs") >= 1)
    start = time.monotonic()
    os.killpg(running.pid, signal.SIGINT)  # as a terminal does: to every process
    running.wait(timeout=30)
    assert time.monotonic() - start < 10  # 2 on a quiet machine
    out, err = running.communicate(timeout=10)
    wait_until(lambda: not session_of(running.pid), 5)
    saved = lines(tmp_path / "my runs")
    assert saved < 12
    how = "kreludomain certify run.yaml --output 'my runs' --resume"
    line = f"stopped: {saved} rows are in my runs/results.jsonl; go on with: {how}\n"
    assert (running.returncode, out, err) == (130, "", line)
    run_study(Certify, RunOptions(tmp_path / "my runs", resume=True), config=tmp_path / "run.yaml")
    assert answers(tmp_path / "my runs") == answers(whole / "out")


def test_a_run_with_nothing_yet_is_resumed_from_the_start_and_a_finished_one_is_left(tmp_path: Path) -> None:
    path = project(tmp_path)
    run_study(Certify, RunOptions(resume=True), config=path)
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    assert len(rows_of(tmp_path / "out")) == 6
    run_study(Certify, RunOptions(resume=True), config=path)
    assert (tmp_path / "out" / "results.jsonl").read_bytes() == before


def changed_network(folder: Path) -> None:
    (folder / "net.onnx").write_bytes(to_onnx(dense(4, 8, 8, 3, seed=2)))


def changed_data(folder: Path) -> None:
    first, *rest = (folder / "data.csv").read_text().splitlines()
    label, value, *values = first.split(",")
    (folder / "data.csv").write_text("\n".join([",".join([label, repr(float(value) + 1e-12), *values]), *rest]))


def changed_config(folder: Path) -> None:
    config = yaml.safe_load((folder / "run.yaml").read_text())
    config |= {"region": {"epsilon": 0.06}, "methods": ["deeppoly", "interval"]}
    (folder / "run.yaml").write_text(yaml.safe_dump(config))


def no_record(folder: Path) -> None:
    (folder / "out" / "run.json").unlink()


def no_row(folder: Path) -> None:
    path = folder / "out" / "results.jsonl"
    path.write_text("{}}\n" + path.read_text())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (changed_network, "out: cannot be resumed, because this has changed: the network\n"),
        (changed_data, "out: cannot be resumed, because this has changed: the data\n"),
        (changed_config, "has changed: the configuration: region.epsilon (0.05, now 0.06), methods[1].name (not there"),
        (no_record, "run.json: not there, or not written by a run"),
        (no_row, "results.jsonl: line 1 is not a row"),
    ],
)
def test_what_has_changed_is_not_resumed(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], change: Callable[[Path], None], message: str
) -> None:
    path = project(tmp_path)
    assert call(capfd, "certify", path)[0] == 0
    before = (tmp_path / "out" / "results.jsonl").read_bytes()
    change(tmp_path)
    is_refused(call(capfd, "certify", path, "--resume"), message)
    assert before in (tmp_path / "out" / "results.jsonl").read_bytes()


def test_rows_of_other_versions_are_kept_and_said(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = project(tmp_path)
    assert call(capfd, "certify", path, "--resume")[2] == ""
    record = tmp_path / "out" / "run.json"
    values = json.loads(record.read_text())
    now, values["versions"]["torch"] = values["versions"]["torch"], "1.0"
    record.write_text(json.dumps(values))
    code, _, err = call(capfd, "certify", path, "--resume")
    assert (code, f"out: its rows were made with other versions (torch 1.0, now {now})" in err) == (0, True)


def test_files_that_moved_are_the_same_run(tmp_path: Path) -> None:
    run_study(Certify, RunOptions(workers=1), config=project(tmp_path / "here"))
    shutil.move(tmp_path / "here", tmp_path / "there")
    run_study(Certify, RunOptions(resume=True, workers=2), config=tmp_path / "there" / "run.yaml")


def test_two_runs_do_not_write_into_one_folder(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    slow_project(tmp_path)
    running = started(tmp_path)
    try:
        wait_until(lambda: lines(tmp_path / "out") >= 1)
        for option in ("--resume", "--overwrite"):
            result = call(capfd, "certify", tmp_path / "run.yaml", option)
            is_refused(result, "out: another run is writing into this folder; use another --output")
    finally:
        running.send_signal(signal.SIGKILL)
        running.communicate()
    Folder(tmp_path / "out", overwrite=True).close()  # the lock has died with its process


def test_a_folder_is_free_however_the_work_in_it_ends(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for error in (None, InputError("wrong"), KeyboardInterrupt()):
        with suppress(InputError, typer.Exit), session("go on") as open_folder:
            folder = open_folder(tmp_path, True)
            folder.append({"a": 1})
            other = FileLock(tmp_path / LOCK, is_singleton=False)
            with pytest.raises(Timeout):
                other.acquire(timeout=0)
            if error is not None:
                raise error
        other.acquire(timeout=0)
        other.release()
    assert capfd.readouterr().err == f"stopped: 1 rows are in {tmp_path / 'results.jsonl'}; go on\n"


def test_json_is_all_that_is_on_stdout(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    project(tmp_path, {"methods": ["interval", {"name": "krelu-lp", "k": 2}]})
    result = process("compare", "run.yaml", "--json", cwd=tmp_path)
    assert (result.returncode, result.stderr) == (0, "")
    *rows, last = map(json.loads, result.stdout.splitlines())
    assert rows == rows_of(tmp_path / "out")
    assert (last["summary"]["samples"], last["summary"]["rows"]) == (6, 12)
    for method in last["summary"]["methods"]:
        verdicts = [row["verdict"] for row in rows if row["method"] == method["method"]]
        assert {v: n for v, n in method["verdicts"].items() if n} == {v: verdicts.count(v) for v in set(verdicts)}
    monkeypatch.chdir(tmp_path)
    again = call(capfd, "compare", "run.yaml", "--json", "--resume")
    assert [json.loads(line) for line in again[1].splitlines()] == [last]


def test_quiet_says_its_last_line_and_the_log_goes_where_it_is_sent(
    tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    path = project(tmp_path)
    line = f"6 samples, 6 rows in {tmp_path / 'out' / 'results.jsonl'}\n"
    arguments: list[Any] = ["certify", path, "--quiet", "--log-level", "info", "--log-file", tmp_path / "log"]
    assert call(capfd, *arguments) == (0, line, "")
    log = (tmp_path / "log").read_text().splitlines()
    assert sum(" INFO kreludomain.run.engine.runner: sample " in entry for entry in log) == 6
    code, _, err = call(capfd, "certify", path, "--overwrite", "--log-level", "info")
    assert (code, err.count("\n")) == (0, len(log))
    is_refused(call(capfd, "certify", path, "--resume", "--overwrite"), "--overwrite and --resume: give one of them")
    is_refused(call(capfd, "certify", path, "--quiet", "--json"), "--quiet and --json: give one of them")


def test_rows_do_not_depend_on_the_number_of_workers(tmp_path: Path, whole: Path) -> None:
    run_study(Certify, RunOptions(workers=3), config=slow_project(tmp_path))
    assert answers(tmp_path / "out") == answers(whole / "out")
