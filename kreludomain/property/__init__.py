"""The question: regions of inputs, claims about the output, VNN-LIB files, objectives at any node."""

from kreludomain.property.around import Normalisation, Numbers, ball, box, norm_name
from kreludomain.property.ball import Ball, L1Ball, L2Ball
from kreludomain.property.box import Box
from kreludomain.property.claim import Claim, claim
from kreludomain.property.factories import between, robustness, targeted, top_k, within
from kreludomain.property.monotone import Monotonicity, monotone
from kreludomain.property.objective import Objective, chunk_rows
from kreludomain.property.questions import (
    QUESTIONS,
    Between,
    Equivalent,
    Linear,
    Monotone,
    PerLabel,
    Question,
    Robust,
    Targeted,
    TopK,
    Within,
    predict,
)
from kreludomain.property.region import Region
from kreludomain.property.region_rows import NormCone, RegionRows
from kreludomain.property.specification import Property, Specification
from kreludomain.property.vnnlib import load_vnnlib

__all__ = [
    "QUESTIONS",
    "Ball",
    "Between",
    "Box",
    "Claim",
    "Equivalent",
    "L1Ball",
    "L2Ball",
    "Linear",
    "Monotone",
    "Monotonicity",
    "NormCone",
    "Normalisation",
    "Numbers",
    "Objective",
    "PerLabel",
    "Property",
    "Question",
    "Region",
    "RegionRows",
    "Robust",
    "Specification",
    "Targeted",
    "TopK",
    "Within",
    "ball",
    "between",
    "box",
    "chunk_rows",
    "claim",
    "load_vnnlib",
    "monotone",
    "norm_name",
    "predict",
    "robustness",
    "targeted",
    "top_k",
    "within",
]
