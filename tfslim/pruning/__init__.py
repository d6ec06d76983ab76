"""Removing channels from a graph: labels, rules, criteria, budgets, surgery."""

from tfslim.pruning import rules

__all__ = ["rules"]
