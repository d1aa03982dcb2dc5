"""The study ``show``: pictures of reachable sets in a plane, and of the relaxations of a pair of neurons."""
