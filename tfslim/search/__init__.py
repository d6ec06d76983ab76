"""The best model under a budget: what can be chosen, what it costs, what is best."""
