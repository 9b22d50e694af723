"""Peers of the benchmarks, each its own program."""
