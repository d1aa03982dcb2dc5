"""``kreludomain certify`` and ``kreludomain compare``."""
