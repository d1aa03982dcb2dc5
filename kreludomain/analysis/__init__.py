"""Analyses of networks that the bounds of the other rooms make possible; each is a package of its own."""
