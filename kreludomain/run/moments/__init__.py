"""``kreludomain moments``: moments of the output next to Monte Carlo, and Gaussian attacks."""
