"""``python -m kreludomain`` is ``kreludomain``."""

from kreludomain.run.cli import program

program()
