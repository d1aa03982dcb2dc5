"""Lipschitz constants, ``l_p`` to ``l_p`` with ``p`` one of 1, 2, inf, and the robust radii that they prove.

*Certified upper bounds*: :func:`product` and :func:`lipsdp` for all inputs, :class:`LocalBounds` over a region.
*Lower bounds*: :func:`sampled_slope` and :func:`sampled_slope_anywhere`. *Certified radii*: :func:`lipschitz_radius`,
:func:`local_radius`, :func:`certified_radius`, and :func:`robust_radii` for all of them. *Estimates, not bounds*:
:class:`Architecture`, :func:`estimate_of`.
"""

from kreludomain.analysis.lipschitz.affine import AffineMap, Layer, layers
from kreludomain.analysis.lipschitz.architecture import (
    ALIASES,
    INITIALISATIONS,
    Architecture,
    Conv,
    Dense,
    Estimate,
    LayerEstimate,
    estimate_of,
)
from kreludomain.analysis.lipschitz.bracket import Bracket
from kreludomain.analysis.lipschitz.jacobian import jacobian_bounds, jacobians
from kreludomain.analysis.lipschitz.local import LocalBounds
from kreludomain.analysis.lipschitz.norms import NORMS, Norm, map_norm, operator_norm, power_iteration
from kreludomain.analysis.lipschitz.products import MapNorm, Product, product
from kreludomain.analysis.lipschitz.radius import (
    RadiusSearch,
    RobustRadius,
    attacked_radius,
    certified_radius,
    lipschitz_radius,
    local_radius,
    margin_factor,
    margins,
    robust_radii,
)
from kreludomain.analysis.lipschitz.sampled import Slope, sampled_slope, sampled_slope_anywhere
from kreludomain.analysis.lipschitz.semidefinite import LipSdp, lipsdp

__all__ = [
    "ALIASES",
    "INITIALISATIONS",
    "NORMS",
    "AffineMap",
    "Architecture",
    "Bracket",
    "Conv",
    "Dense",
    "Estimate",
    "Layer",
    "LayerEstimate",
    "LipSdp",
    "LocalBounds",
    "MapNorm",
    "Norm",
    "Product",
    "RadiusSearch",
    "RobustRadius",
    "Slope",
    "attacked_radius",
    "certified_radius",
    "estimate_of",
    "jacobian_bounds",
    "jacobians",
    "layers",
    "lipschitz_radius",
    "lipsdp",
    "local_radius",
    "map_norm",
    "margin_factor",
    "margins",
    "operator_norm",
    "power_iteration",
    "product",
    "robust_radii",
    "sampled_slope",
    "sampled_slope_anywhere",
]
