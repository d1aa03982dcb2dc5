"""The one exception that bad input raises.

Everything a user can get wrong (a file, a key, a node, a shape, a number) ends in an :class:`InputError` whose text is
one line that names the thing. The command line prints that line and exits with code 2.
"""


class InputError(ValueError):
    """Invalid input; ``str(error)`` is one line that names the mistake and its place (file, key, node or line)."""
