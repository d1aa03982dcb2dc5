"""A verdict: methods by name, certification, attack."""

from kreludomain.verify.attack import find_counterexample
from kreludomain.verify.certify import Certificate, Verdict, abstract, bounds, certify, predict
from kreludomain.verify.methods import METHODS, make_method
from kreludomain.verify.replay import counterexample_text, replayed
from kreludomain.verify.specification import Answer, decide

__all__ = [
    "METHODS",
    "Answer",
    "Certificate",
    "Verdict",
    "abstract",
    "bounds",
    "certify",
    "counterexample_text",
    "decide",
    "find_counterexample",
    "make_method",
    "predict",
    "replayed",
]
