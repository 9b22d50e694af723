"""Match of two rasters: the transform that lays one on the other, from edges, and its quality."""
