"""S-expressions, the syntax of SMT-LIB files, each with the line that it begins on."""

from __future__ import annotations

import re
from dataclasses import dataclass

from kreludomain.errors import InputError

#: A parenthesis or a symbol; the rest of a line after a semicolon is a comment.
TOKEN = re.compile(r"[()]|[^\s();]+")

#: How deep parentheses may be nested.
DEEPEST = 200


@dataclass(frozen=True, slots=True)
class Symbol:
    """A word or a number as it is written."""

    text: str
    line: int

    def __str__(self) -> str:
        return f"'{self.text}'"


@dataclass(frozen=True, slots=True)
class Group:
    """A list of expressions in parentheses."""

    items: tuple[Expression, ...]
    line: int

    @property
    def head(self) -> str:
        """The word that the group begins with; empty if it begins with none."""
        return self.items[0].text if self.items and isinstance(self.items[0], Symbol) else ""

    def __str__(self) -> str:
        return f"'({self.head} ...)'" if self.head else "'(...)'"


Expression = Symbol | Group


class MalformedError(InputError):
    """A mistake in the text, and the line it is on (0: no line in particular)."""

    def __init__(self, line: int, message: str) -> None:
        super().__init__(message)
        self.line = line


def parse(text: str) -> list[Expression]:
    """The expressions of a text. Raises :class:`MalformedError` for parentheses that do not match."""
    done: list[Expression] = []
    opened: list[tuple[int, list[Expression]]] = []  # open parentheses: the line, and the items of the enclosing list
    for line, content in enumerate(text.splitlines(), 1):
        for token in TOKEN.findall(content.partition(";")[0]):
            if token == "(":
                opened.append((line, done))
                done = []
                if len(opened) > DEEPEST:
                    raise MalformedError(line, f"parentheses are nested more than {DEEPEST} deep")
            elif token == ")":
                if not opened:
                    raise MalformedError(line, "')' without a '(' before it")
                start, around = opened.pop()
                around.append(Group(tuple(done), start))
                done = around
            else:
                done.append(Symbol(token, line))
    if opened:
        raise MalformedError(opened[-1][0], "'(' is never closed")
    return done
