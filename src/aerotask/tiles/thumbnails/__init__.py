"""Thumbnails of photos, vectors and point clouds."""
