"""Benchmarks: long runs whose results stand under results/."""
