"""Synthetic orthophotos for the demonstration, tests and benchmarks."""
