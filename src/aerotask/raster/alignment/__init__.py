"""Finds how one raster lies beside another, and lays it where it belongs."""
