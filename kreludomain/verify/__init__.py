"""A verdict: methods by name, certification, attack."""

from kreludomain.attack import confirmed, counterexample_text
from kreludomain.property import predict
from kreludomain.verify.certificate import Certificate, Verdict
from kreludomain.verify.certify import abstract, bounds, certify, try_on
from kreludomain.verify.complete import Complete
from kreludomain.verify.equivalence import Equivalence, equivalent
from kreludomain.verify.methods import METHODS, make_method
from kreludomain.verify.radii import Radius, RegionFamily, Trial, radius
from kreludomain.verify.specification import Answer, decide

__all__ = [
    "METHODS",
    "Answer",
    "Certificate",
    "Complete",
    "Equivalence",
    "Radius",
    "RegionFamily",
    "Trial",
    "Verdict",
    "abstract",
    "bounds",
    "certify",
    "confirmed",
    "counterexample_text",
    "decide",
    "equivalent",
    "make_method",
    "predict",
    "radius",
    "try_on",
]
