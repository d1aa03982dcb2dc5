"""Data: samples from files, arrays and data frames, as inputs of a network.

Every kind of source is read into :class:`Rows`, and rows become samples in one place, by the keys that all data has.
"""

from kreludomain.data.entries import Entries
from kreludomain.data.given import samples
from kreludomain.data.keys import DataKeys
from kreludomain.data.sample import Sample
from kreludomain.data.sources import data_keys, file_keys, read_samples
from kreludomain.data.values import NormaliseKeys
from kreludomain.property.names import Names

__all__ = [
    "DataKeys",
    "Entries",
    "Names",
    "NormaliseKeys",
    "Sample",
    "data_keys",
    "file_keys",
    "read_samples",
    "samples",
]
