"""``kreludomain bounds``."""
