"""Bounds of float64 rounding errors; every outward slack in the package is a multiple of these."""

#: Outward slack of a concretised value, relative to the sum of the magnitudes of its terms: far above the rounding
#: errors of float64 in sums of some thousand terms, and far below the precision in which bounds are read.
ROUNDING = 1e-12


def gamma(terms: int) -> float:
    """Twice the rounding error of a sum of ``terms`` products, relative to the sum of their magnitudes.

    ``n u / (1 - n u)`` with ``u = 2^-53`` bounds it for any order of summation (Higham, *Accuracy and Stability of
    Numerical Algorithms*, 2002, section 3.1); a few more terms account for the rounding of operands and results.
    """
    return (terms + 8) * 2.0**-52
