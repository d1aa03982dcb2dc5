"""A verdict: methods by name, certification, attack."""

from kreludomain.attack.confirm import confirmed, counterexample_text
from kreludomain.attack.search import find_counterexample
from kreludomain.verify.certify import Certificate, Verdict, abstract, bounds, certify, predict
from kreludomain.verify.methods import METHODS, make_method
from kreludomain.verify.specification import Answer, decide

__all__ = [
    "METHODS",
    "Answer",
    "Certificate",
    "Verdict",
    "abstract",
    "bounds",
    "certify",
    "confirmed",
    "counterexample_text",
    "decide",
    "find_counterexample",
    "make_method",
    "predict",
]
