"""``kreludomain lipschitz``: Lipschitz constants as brackets, and the robust radii that follow from them."""
