"""A verdict: methods by name, certification, attack."""

from kreludomain.verify.attack import find_counterexample, replayed
from kreludomain.verify.certify import Certificate, Verdict, abstract, bounds, certify, predict
from kreludomain.verify.methods import METHODS, make_method

__all__ = [
    "METHODS",
    "Certificate",
    "Verdict",
    "abstract",
    "bounds",
    "certify",
    "find_counterexample",
    "make_method",
    "predict",
    "replayed",
]
