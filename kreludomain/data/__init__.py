"""Samples: inputs with what is known about them."""

from kreludomain.data.sample import Sample

__all__ = ["Sample"]
