"""The pixel library: formulas, colours, windows, pipelines."""
