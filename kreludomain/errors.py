"""The one exception that bad input raises.

Everything a user can get wrong (a file, a key, a node, a shape, a number) ends in an :class:`InputError` whose text is
one line that names the thing. The command line prints that line and exits with code 2.
"""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


class InputError(ValueError):
    """Invalid input; ``str(error)`` is one line that names the mistake and its place (file, key, node or line)."""


def did_you_mean(given: object, known: Iterable[str]) -> str:
    """The end of a message about a word that is not known: the nearest one that is, if one is near."""
    lower = {name.lower(): name for name in known}
    close = get_close_matches(given.lower(), list(lower), n=1) if isinstance(given, str) else []
    return f"; did you mean '{lower[close[0]]}'?" if close else ""
