"""Bounds of float64 rounding errors; every outward slack in the package is a multiple of these."""

from __future__ import annotations

import torch
from torch import Tensor

#: Outward slack of a concretised value, relative to the sum of the magnitudes of its terms: far above the rounding
#: errors of float64 in sums of some thousand terms, and far below the precision in which bounds are read.
ROUNDING = 1e-12

#: Slacks are relative, so they do not cover what products lose that underflow: at most 2^-1074 each, times the weights
#: behind them. A bound that is positive but below this proves nothing.
UNDERFLOW = 1e-150


def gamma(terms: int) -> float:
    """Twice the rounding error of a sum of ``terms`` products, relative to the sum of their magnitudes.

    ``n u / (1 - n u)`` with ``u = 2^-53`` bounds it for any order of summation (Higham, *Accuracy and Stability of
    Numerical Algorithms*, 2002, section 3.1); a few more terms account for the rounding of operands and results.
    """
    return (terms + 8) * 2.0**-52


def saturated(value: Tensor, dtype: torch.dtype) -> Tensor:
    """Numbers in another type; those beyond it become its largest, so that what is computed with them is an
    estimate."""
    largest = torch.finfo(dtype).max
    return (value.clamp(-largest, largest) if largest < torch.finfo(value.dtype).max else value).to(dtype)
