"""Preparation of features for vector tiles: valid geometries in degrees, cut at ±180°, and the zoom that they allow."""
