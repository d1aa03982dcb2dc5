"""``kreludomain verify`` and ``kreludomain benchmark``: instances of the verifier competition."""
