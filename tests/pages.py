"""The examples of a page: its blocks in their order, run as a reader would run them, and what they print.

A block of python or yaml that begins with a comment which is a file's name is that file. Any other block of python goes
on with the one before it, as at a prompt, until something else is run. A block of sh is run by bash. A block of text
after one that was run is what it prints: numbers with a point may differ by a tenth, and ``...`` stands for anything.
"""

from __future__ import annotations

import math
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

_BLOCK = re.compile(r"^```(python|yaml|sh|text)\n(.*?)^```$", flags=re.MULTILINE | re.DOTALL)
_NAME = re.compile(r"# ([\w-]+\.(?:py|yaml))\n")
_TOKEN = re.compile(r"\.{3}|-?\d+(?:\.\d+)?|[^\W\d]+|[^\w\s─]")
_MARK = "--- the next block ---"


@dataclass(frozen=True)
class Step:
    """What is run at once, and what each of its blocks is said to print (``None``: nothing is said)."""

    language: str
    codes: tuple[str, ...]
    printed: tuple[str | None, ...]


@dataclass(frozen=True)
class File:
    """A file of the page."""

    name: str
    text: str


def steps(page: str) -> Iterator[Step | File]:
    """What a page asks for, in its order. Raises ``AssertionError`` for output without a block that prints it."""
    step: Step | None = None
    for language, text in _BLOCK.findall(page):
        name = _NAME.match(text)
        if language == "text":
            assert step is not None, f"what prints this? {text}"
            assert step.printed[-1] is None, f"what prints this? {text}"
            step = replace(step, printed=(*step.printed[:-1], text))
        elif language == "python" and name is None and step is not None and step.language == "python":
            step = Step(language, (*step.codes, text), (*step.printed, None))
        else:
            if step is not None:
                yield step
            step = None
            if name is None:
                assert language != "yaml", f"a file without a name: {text}"
                step = Step(language, (text,), (None,))
            else:
                yield File(name[1], text)
    if step is not None:
        yield step


@dataclass(frozen=True)
class Desk:
    """A folder in which a page is read and tried."""

    folder: Path
    environment: dict[str, str] = field(default_factory=dict)

    def run(self, step: Step) -> list[str]:
        """What each block of a step prints, errors too. Raises ``AssertionError`` if it fails and does not say so."""
        if step.language == "python":
            command = [sys.executable, "-c", f"\nprint({_MARK!r})\n".join(step.codes)]
        else:
            start = 'python() { "$PYTHON" "$@"; }; kreludomain() { python -m kreludomain "$@"; }; set -e\n'
            command = ["bash", "-c", start + "".join(step.codes)]
        environment = os.environ | {"PYTHON": sys.executable, "COLUMNS": "120", "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            command,
            cwd=self.folder,
            env=environment | self.environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=300,
            check=False,
        )
        refused = (step.printed[-1] or "").startswith("error: ")
        assert done.returncode == (2 if refused else 0), done.stdout
        return done.stdout.split(f"{_MARK}\n")

    def follow(self, page: str) -> Iterator[tuple[str | None, str]]:
        """What is said to be printed and what is, block by block."""
        for step in steps(page):
            if isinstance(step, File):
                (self.folder / step.name).write_text(step.text, encoding="utf-8")
            else:
                yield from zip(step.printed, self.run(step), strict=True)


def agrees(said: str, printed: str) -> bool:
    """Whether a text is what is said of it."""
    rest, parts = _TOKEN.findall(printed), [_TOKEN.findall(part) for part in said.split("...")]
    for number, part in enumerate(parts):
        first, last = number == 0, number == len(parts) - 1
        starts = [0] if first else [len(rest) - len(part)] if last else range(len(rest) - len(part) + 1)
        found = [s for s in starts if s >= 0 and all(map(_same, part, rest[s : s + len(part)]))]
        if not found or (first and last and len(part) != len(rest)):
            return False
        rest = rest[found[0] + len(part) :]
    return True


def _same(said: str, printed: str) -> bool:
    if "." in said and "." in printed and said[-1].isdigit() and printed[-1].isdigit():
        return math.isclose(float(said), float(printed), rel_tol=0.1)
    return said == printed
