"""What float64 rounding can do to sums, in one place: every outward slack is a multiple of these."""

#: Outward slack of a concretised value, relative to the sum of the magnitudes of its terms: far above what float64
#: rounding can do to sums of some thousand terms, far below what anyone reads off a bound.
ROUNDING = 1e-12


def gamma(terms: int) -> float:
    """Twice what rounding can do to a sum of ``terms`` products, relative to the sum of their magnitudes.

    ``n u / (1 - n u)`` with ``u = 2^-53`` bounds it for any order of summation (Higham, *Accuracy and Stability of
    Numerical Algorithms*, 2002, section 3.1); a few more terms are for what is done to operands and results.
    """
    return (terms + 8) * 2.0**-52
