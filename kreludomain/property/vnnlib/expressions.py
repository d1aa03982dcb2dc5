"""S-expressions, the syntax of SMT-LIB files, each with the line that it begins on.

As the SMT-LIB standard (version 2.6, section 3.1) has it, only a line feed or a carriage return ends a line, and with
it a comment: a form feed or a Unicode line separator does not, or what is written behind it would become an assertion.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from kreludomain.errors import InputError

#: What ends a line.
_LINE_END = re.compile(r"\r\n|\r|\n")

#: A parenthesis or a symbol; the rest of a line after a semicolon is a comment.
_TOKEN = re.compile(r"[()]|[^ \t();]+")

#: What no token has: quotes, and characters that the standard does not have outside of quotes and comments.
_NO_TOKEN = re.compile(r"[^\t -~]|[|\"]")

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
    for line, content in enumerate(_LINE_END.split(text), 1):
        code = content.partition(";")[0]
        strange = _NO_TOKEN.search(code)
        if strange is not None:
            raise MalformedError(line, f"the character {strange[0]!a} is not one that VNN-LIB has")
        for token in _TOKEN.findall(code):
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
