"""Benchmarks: one file, one question. Each prints what it measures, and one JSON line last."""
