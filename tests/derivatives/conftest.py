"""Fixtures of the derivative tests."""

from tests.raster.real_data import real_data

__all__ = ["real_data"]
