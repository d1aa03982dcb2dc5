"""Data: samples from files, arrays and data frames, as inputs of a network.

Every kind of source is read into rows, and rows become samples in one place, by the keys that all data has.
"""

from kreludomain.data.entries import Entries
from kreludomain.data.given import samples
from kreludomain.data.sample import Sample
from kreludomain.property.names import Names

__all__ = [
    "Entries",
    "Names",
    "Sample",
    "samples",
]
