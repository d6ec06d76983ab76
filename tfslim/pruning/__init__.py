"""Removing channels from a graph: labels, rules, criteria, budgets, surgery."""

from tfslim.pruning import rules
from tfslim.pruning.ratios import ratios_from_sparsity

__all__ = ["ratios_from_sparsity", "rules"]
