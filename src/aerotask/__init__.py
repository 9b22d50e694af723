"""Aerotask: a processing platform for drone and raster datasets."""

__version__ = "0.1.0"
