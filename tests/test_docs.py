"""What the documents say can be done, can be done."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import kreludomain as kd
from kreludomain.run.config import Config, load_config
from kreludomain.run.runner import prepare

ROOT = Path(__file__).resolve().parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


@pytest.mark.parametrize("code", blocks("python"))
def test_python_in_the_readme_runs(code: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(ROOT)
    names: dict[str, object] = {}
    exec(code, names)
    result = names["result"]
    assert isinstance(result, kd.Certificate)
    assert result.verdict in (kd.Verdict.VERIFIED, kd.Verdict.FALSIFIED, kd.Verdict.UNKNOWN)


@pytest.mark.parametrize("text", blocks("yaml"))
def test_yaml_in_the_readme_is_a_configuration(text: str, tmp_path: Path) -> None:
    (tmp_path / "nets").symlink_to(ROOT / "configs" / "nets")
    path = tmp_path / "example.yaml"
    path.write_text(text, encoding="utf-8")
    assert prepare(load_config(path, Config)).size == 20 * 3  # images and methods


#: What the file names of the analyses' configurations start with; each analysis tests its own.
ANALYSES = ("invert", "lipschitz", "moments", "show")
CONFIGS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if not path.stem.startswith(ANALYSES)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_ready_to_run(path: Path) -> None:
    assert prepare(load_config(path, Config)).size > 0


def test_the_api_page_is_all_there_is() -> None:
    assert all(hasattr(kd, name) for name in kd.__all__)
    assert all(re.search(rf"\b{name}\b", README) for name in ("load", "ball", "robustness", "bounds", "certify"))


def test_methods_in_the_readme_are_those_of_the_table() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", README, flags=re.MULTILINE) == list(kd.METHODS)
