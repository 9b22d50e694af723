"""Fixtures for the tests of the tools."""

from tests.raster.real_data import real_data

__all__ = ["real_data"]
