"""Georeference of rasters: by an affine transform, control points, RPCs, or files beside them."""
