"""Benchmarks against other packages; README.md says what they need."""
