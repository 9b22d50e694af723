"""What these tests share."""

from tests.raster.real_data import real_data

__all__ = ["real_data"]
