"""Mean and covariance of a ReLU network's output for a normal input, and Gaussian attacks.

They are exact for one ReLU layer and estimates for more. ::

    x = gaussian(mean, covariance)                    # any positive semidefinite covariance, singular ones too
    affine_relu_affine(W, b, V, c, x)                 # exact mean and covariance of V max(W x + b, 0) + c
    network_moments(network, x, layer)                # that ReLU layer exactly, the others linearised
    propagated_moments(network, x)                    # every ReLU layer exactly, as if its input were normal
    agreement(moments, sampled_moments(network, x, count=100_000))
"""

from kreludomain.analysis.moments.attack import (
    GaussianAttack,
    GaussianAttackOptions,
    smooth_attack,
    smooth_basis,
    sparse_attack,
    sparse_basis,
)
from kreludomain.analysis.moments.gaussian import Gaussian, Moments, gaussian, image_shape, pixel_covariance
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
from kreludomain.analysis.moments.sampling import Agreement, SampledMoments, agreement, sampled_moments

__all__ = [
    "RULES",
    "Agreement",
    "Gaussian",
    "GaussianAttack",
    "GaussianAttackOptions",
    "Linearised",
    "Moments",
    "SampledMoments",
    "affine_relu_affine",
    "agreement",
    "bivariate_cdf",
    "cheap_covariance",
    "exact_covariance",
    "expected_output",
    "gaussian",
    "image_shape",
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
