"""kreludomain: certifies ReLU networks with joint relaxations of groups of neurons (k-ReLU).

The whole public API is on this page. A session::

    import kreludomain as kd

    network = kd.load("net.onnx")                                # or kd.from_torch(module, input_shape)
    region = kd.ball(x, 0.02, norm="inf", clip=(0, 1))           # or kd.box(lower, upper)
    claim = kd.robustness(label=3, classes=10)                   # or top_k, targeted, within, between, claim(C, d)

    layers = kd.bounds(network, region, "deeppoly")              # bounds of every layer, by node name
    result = kd.certify(network, region, claim)                  # or method="deeppoly", kd.KReluLP(k=3), ...
    result.verdict, result.lower_bounds
    found = kd.radius(network, x, claim, clip=(0, 1))            # how far it holds: found.certified, found.attacked

    samples = kd.samples("data.csv", network, label="class")     # files, arrays, data frames, data sets
    results = kd.certify_many(network, samples, 0.02)            # worker processes, limits; kd.compare: best margins

    kd.equivalent(network, other, region, delta=0.01)            # two networks: |f(x) - g(x)| <= 0.01

    specification = kd.load_vnnlib("property.vnnlib", network)   # the same from a file
    kd.decide(network, specification, timeout_s=60).verdict      # verified if every property is, falsified if one is

To put in something of your own, derive from :class:`Region`, :class:`Grouping`, :class:`Solver`, :class:`Refinement`,
:class:`BranchingRule`, :class:`Attack` or :class:`Method`: ``KRelu(grouping=...)``, ``KReluLP(solver=...)``,
``Refined(...)``, ``Complete(branching=Branching(rule=...), attack=...)``; a method is passed in place of a name.
"""

from typing import TYPE_CHECKING, Any

from kreludomain.attack import Attack, PGDAttack
from kreludomain.bounding import KRelu, KReluLP, Refined, Refinement, TriangleLP
from kreludomain.branching import Branching, BranchingRule, InputSplitting
from kreludomain.data import Sample, samples
from kreludomain.deadline import Deadline
from kreludomain.domain import (
    Abstraction,
    Bounds,
    DeepPoly,
    Interval,
    LayerBounds,
    LowerBounds,
    Method,
    PriorBounds,
    Query,
    Zonotope,
)
from kreludomain.errors import InputError
from kreludomain.groups import ByArea, Grouping, JointRelaxation, joint_hull, octahedra, piece_vertices
from kreludomain.network import Network, Node, difference, from_torch, load, to_onnx
from kreludomain.programs import Solver
from kreludomain.property import (
    Between,
    Claim,
    Equivalent,
    Linear,
    Monotone,
    Monotonicity,
    Normalisation,
    Objective,
    PerLabel,
    Property,
    Question,
    Region,
    Robust,
    Specification,
    Targeted,
    TopK,
    Within,
    ball,
    between,
    box,
    claim,
    load_vnnlib,
    monotone,
    predict,
    robustness,
    targeted,
    top_k,
    within,
)
from kreludomain.verify import (
    METHODS,
    Answer,
    Certificate,
    Complete,
    Equivalence,
    Radius,
    Trial,
    Verdict,
    abstract,
    bounds,
    certify,
    decide,
    equivalent,
    radius,
)

if TYPE_CHECKING:
    from kreludomain.run.many import Interrupted, Results, certify_many, compare

__version__ = "0.1.0"

__all__ = [
    "METHODS",
    "Abstraction",
    "Answer",
    "Attack",
    "Between",
    "Bounds",
    "Branching",
    "BranchingRule",
    "ByArea",
    "Certificate",
    "Claim",
    "Complete",
    "Deadline",
    "DeepPoly",
    "Equivalence",
    "Equivalent",
    "Grouping",
    "InputError",
    "InputSplitting",
    "Interrupted",
    "Interval",
    "JointRelaxation",
    "KRelu",
    "KReluLP",
    "LayerBounds",
    "Linear",
    "LowerBounds",
    "Method",
    "Monotone",
    "Monotonicity",
    "Network",
    "Node",
    "Normalisation",
    "Objective",
    "PGDAttack",
    "PerLabel",
    "PriorBounds",
    "Property",
    "Query",
    "Question",
    "Radius",
    "Refined",
    "Refinement",
    "Region",
    "Results",
    "Robust",
    "Sample",
    "Solver",
    "Specification",
    "Targeted",
    "TopK",
    "Trial",
    "TriangleLP",
    "Verdict",
    "Within",
    "Zonotope",
    "abstract",
    "ball",
    "between",
    "bounds",
    "box",
    "certify",
    "certify_many",
    "claim",
    "compare",
    "decide",
    "difference",
    "equivalent",
    "from_torch",
    "joint_hull",
    "load",
    "load_vnnlib",
    "monotone",
    "octahedra",
    "piece_vertices",
    "predict",
    "radius",
    "robustness",
    "samples",
    "targeted",
    "to_onnx",
    "top_k",
    "within",
]

#: What needs the engine of the command line, which is imported when it is first asked for.
_ENGINE = ("Interrupted", "Results", "certify_many", "compare")


def __getattr__(name: str) -> Any:
    if name in _ENGINE:
        from kreludomain.run import many

        return getattr(many, name)
    raise AttributeError(f"module 'kreludomain' has no attribute '{name}'")
