"""Structured pruning: which channels go together, which matter, and the cut."""
