"""What the documents say can be done, can be done."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from pages import Desk, agrees

import kreludomain as kd
from kreludomain.run.certify.study import Certify

#: The packages whose public names the reference describes.
ROOMS = (
    *("network", "data", "activations", "property", "domain", "groups", "programs", "bounding"),
    *("branching", "attack", "verify"),
    *(f"analysis.{name}" for name in ("lipschitz", "invert", "moments", "reachable")),
)
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
    assert len(Certify.prepare(Certify.load(path)).tasks()) == 20 * 3  # images and methods


#: What the file names of the analyses' configurations start with; each analysis tests its own.
ANALYSES = ("invert", "lipschitz", "moments", "radius", "show")
CONFIGS = [path for path in sorted((ROOT / "configs").glob("*.yaml")) if not path.stem.startswith(ANALYSES)]


@pytest.mark.parametrize("path", CONFIGS, ids=lambda path: path.stem)
def test_configurations_are_ready_to_run(path: Path) -> None:
    assert Certify.prepare(Certify.load(path)).tasks()


def test_the_api_page_is_all_there_is() -> None:
    assert all(hasattr(kd, name) for name in kd.__all__)
    assert all(re.search(rf"\b{name}\b", README) for name in ("load", "ball", "robustness", "bounds", "certify"))


def test_methods_in_the_readme_are_those_of_the_table() -> None:
    assert re.findall(r"^\| `([a-z-]+)` \|", README, flags=re.MULTILINE) == list(kd.METHODS)


# The site ------------------------------------------------------------------------------------------------------------

PAGES = sorted([ROOT / "docs" / "tutorial.md", *(ROOT / "docs" / "howto").glob("*.md")])
NEEDS = {"cluster": "ray"}  # the extra that a page is about


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.stem)
def test_examples_run_and_print_what_the_page_says(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if path.stem in NEEDS:
        pytest.importorskip(NEEDS[path.stem], reason=f"the page needs the extra '{NEEDS[path.stem]}'")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("RAY_worker_niceness", "0")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    shutil.copytree(ROOT / "configs", tmp_path / "configs")  # pages are about a clone of the repository
    for said, printed in Desk(tmp_path).follow(path.read_text(encoding="utf-8")):
        assert said is None or agrees(said, printed), f"the page says:\n{said}\nit prints:\n{printed}"


#: The pages that add one thing each.
ADDS = ("activation", "analysis", "branching_rule", "grouping", "operator", "refinement", "region", "solver")
#: Files that use the thing: they try it, or put it into a table and start the program.
USES = re.compile(r"try_\w+|run|my_kreludomain")


@pytest.mark.parametrize("name", ADDS)
def test_a_page_adds_its_thing_in_one_file(name: str) -> None:
    text = (ROOT / "docs" / "howto" / f"{name}.md").read_text(encoding="utf-8")
    files = re.findall(r"^```python\n# (\w+)\.py$", text, flags=re.MULTILINE)
    assert len([file for file in files if not USES.fullmatch(file)]) == 1


def test_what_is_printed_is_held_against_the_page() -> None:
    assert agrees("2 of 3 right, 1.50 ... end\n", "2 of  3 right, 1.52 and more end")
    assert not agrees("2 of 3 right", "1 of 3 right")
    assert not agrees("margin 1.50", "margin 1.80")
    assert not agrees("right", "right and wrong")
    assert not agrees("begin ... end", "begin and no more")


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documentation, built with every warning as an error."""
    for package in ("sphinx", "myst_parser", "furo"):
        pytest.importorskip(package, reason="the site needs the extra 'docs'")
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-d", str(folder / "trees")]
    done = subprocess.run(
        [*command, str(ROOT / "docs"), str(folder / "html")],
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return folder / "html"


class Links(HTMLParser):
    """What a page loads, where its links go, and what can be linked to in it."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.anchors: set[str] = set()
        self.feed(path.read_text(encoding="utf-8"))

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {key: value for key, value in attrs if value is not None}
        self.anchors |= {values[key] for key in ("id", "name") if key in values}
        self.loads += [values[key] for key in ("src", "data", "poster", "srcset") if key in values]
        if "href" in values:
            (self.links if tag == "a" else self.loads).append(values["href"])


def test_the_site_is_read_without_a_network(site: Path) -> None:
    pages = {path: Links(path) for path in site.rglob("*.html")}
    assert len(pages) > 15
    for path, page in pages.items():
        assert not [load for load in page.loads if re.match(r"(https?:)?//", load)], path
    for style in site.rglob("*.css"):
        assert not re.search(r"(url\(|@import)\s*['\"]?(https?:)?//", style.read_text(encoding="utf-8")), style


def test_every_link_of_the_site_leads_somewhere(site: Path) -> None:
    pages = {path.resolve(): Links(path) for path in site.rglob("*.html")}
    for path, page in pages.items():
        for link in (*page.links, *page.loads):
            where, _, anchor = link.partition("#")
            where = unquote(where.partition("?")[0])
            if re.match(r"\w+:", link):
                continue
            target = (path.parent / where).resolve() if where else path
            assert target.exists(), f"{path.name}: {link}"
            assert not anchor or target not in pages or unquote(anchor) in pages[target].anchors, f"{path.name}: {link}"


def test_the_reference_has_everything_that_is_public(site: Path) -> None:
    anchors = {anchor for path in (site / "reference").glob("*.html") for anchor in Links(path).anchors}
    described = {anchor.rpartition(".")[2] for anchor in anchors}
    for module in (kd, *(importlib.import_module(f"kreludomain.{room}") for room in ROOMS)):
        values = {name: getattr(module, name) for name in module.__all__}
        names = {name for name, it in values.items() if inspect.isclass(it) or inspect.isfunction(inspect.unwrap(it))}
        assert names - described == set(), module.__name__
