"""Raster export: options, plan, pixels and files."""
