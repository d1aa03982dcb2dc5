"""Every method by its name. A method's options are the fields of its class, so a new one is an entry here."""

from __future__ import annotations

from typing import Any

from kreludomain.bounding import KRelu, KReluLP, TriangleLP
from kreludomain.domain import DeepPoly, Interval, Method, Zonotope
from kreludomain.errors import InputError, did_you_mean
from kreludomain.verify.complete import Complete

METHODS: dict[str, type[Any]] = {
    "interval": Interval,
    "zonotope": Zonotope,
    "deeppoly": DeepPoly,
    "lp": TriangleLP,
    "krelu-lp": KReluLP,
    "krelu": KRelu,
    "complete": Complete,
}


def make_method(method: str | Method, **options: Any) -> Method:
    """A method from its name and options; a method object is returned as it is.

    Raises :class:`InputError` for an unknown name, an unknown option, or a value that an option does not take.
    """
    if not isinstance(method, str):
        if options:
            raise InputError(f"method: options {', '.join(options)} are given with a method that is already made")
        return method
    if method not in METHODS:
        raise InputError(f"method: '{method}' is not one of {', '.join(METHODS)}{did_you_mean(method, METHODS)}")
    known = METHODS[method].__dataclass_fields__
    for name in options:
        if name not in known:
            raise InputError(
                f"method {method}: '{name}' is not one of its options ({', '.join(known) or 'it has none'})"
                + did_you_mean(name, known)
            )
    made: Method = METHODS[method](**options)
    return made
