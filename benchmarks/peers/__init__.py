"""What the benchmarks compare with, each a program of its own."""
