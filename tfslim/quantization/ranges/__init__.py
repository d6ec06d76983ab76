"""Ranges of activations: collected, made into thresholds, kept in ranges.json."""
