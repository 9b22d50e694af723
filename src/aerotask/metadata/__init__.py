"""Metadata extraction from rasters, photos, point clouds, meshes, vectors and videos."""
