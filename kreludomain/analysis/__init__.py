"""What else the same networks and bounds give; a package an analysis."""
