"""Pixel library: expressions, colours, windows, and the pipelines of export, merge and alignment."""
