"""Moments of ReLU networks for normal inputs: exact for one ReLU layer, by linearisation for more; Gaussian attacks.

::

    x = gaussian(mean, covariance)                    # any positive semidefinite covariance, singular ones too
    affine_relu_affine(W, b, V, c, x)                 # exact mean and covariance of V max(W x + b, 0) + c
    network_moments(network, x, layer)                # one ReLU layer kept, the rest linearised
    propagated_moments(network, x)                    # every ReLU layer kept, its input taken as normal
    agreement(found, sampled_moments(network, x, count=100_000))
"""

from kreludomain.analysis.moments.attack import (
    Attack,
    AttackOptions,
    smooth_attack,
    smooth_basis,
    sparse_attack,
    sparse_basis,
)
from kreludomain.analysis.moments.gaussian import Gaussian, Moments, gaussian, pixel_covariance
from kreludomain.analysis.moments.network import (
    Linearised,
    expected_output,
    linearise,
    network_moments,
    propagated_moments,
    relu_layers,
)
from kreludomain.analysis.moments.normal import bivariate_cdf, relu_covariance
from kreludomain.analysis.moments.relu import (
    RULES,
    affine_relu_affine,
    cheap_covariance,
    exact_covariance,
    relu_mean,
    relu_moments,
)
from kreludomain.analysis.moments.sampling import Agreement, Sampled, agreement, sampled_moments

__all__ = [
    "RULES",
    "Agreement",
    "Attack",
    "AttackOptions",
    "Gaussian",
    "Linearised",
    "Moments",
    "Sampled",
    "affine_relu_affine",
    "agreement",
    "bivariate_cdf",
    "cheap_covariance",
    "exact_covariance",
    "expected_output",
    "gaussian",
    "linearise",
    "network_moments",
    "pixel_covariance",
    "propagated_moments",
    "relu_covariance",
    "relu_layers",
    "relu_mean",
    "relu_moments",
    "sampled_moments",
    "smooth_attack",
    "smooth_basis",
    "sparse_attack",
    "sparse_basis",
]
