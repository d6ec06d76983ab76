"""Prox-SG: stochastic gradients with a proximal step that sets weights to zero."""
