"""Image matching: the transform between two rasters, found from their edges, and its quality."""
