"""What else the same networks and bounds make possible: one package an analysis, pure mathematics without printing."""
