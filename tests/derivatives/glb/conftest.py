"""Fixtures of the GLB tests."""

from tests.raster.real_data import real_data

__all__ = ["real_data"]
