"""Analyses beside verdicts that the same networks and bounds make possible, one package each."""
