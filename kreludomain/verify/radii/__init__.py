"""The certified radius of a claim: the largest epsilon of a growing family of regions at which it is proved."""

from kreludomain.attack.nearest import RegionFamily
from kreludomain.verify.radii.bisection import Trial
from kreludomain.verify.radii.certified import Radius, radius

__all__ = ["Radius", "RegionFamily", "Trial", "radius"]
