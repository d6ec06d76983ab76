"""Bayesian compression: channels whose scale is mostly noise go."""
