"""The study ``invert``: radii of invertibility, and of one network being a function of another."""
