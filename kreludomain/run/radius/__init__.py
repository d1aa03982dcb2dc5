"""``kreludomain radius``."""
