"""Activation pruning: units that never fire, or that are redundant, are removed."""
