"""Side files of rasters: their suffixes, and the georeference that they give, without reading them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

GeoTransform = tuple[float, float, float, float, float, float]
"""In GDAL's order: x origin, pixel width, row rotation, y origin, column rotation, pixel height."""

SIDE_SUFFIXES: Mapping[str, tuple[str, ...]] = {
    "tif": ("tfw", "tifw", "tfwx", "wld", "prj"),
    "tiff": ("tfw", "tiffw", "tfwx", "wld", "prj"),
    "jpg": ("jgw", "jpgw", "jgwx", "wld", "prj"),
    "jpeg": ("jgw", "jpegw", "jgwx", "wld", "prj"),
    "png": ("pgw", "pngw", "pgwx", "wld", "prj"),
    "jp2": ("j2w", "jp2w", "j2wx", "wld", "prj"),
}
"""Suffixes of a raster's side files by its own, the most specific first."""


@dataclass(frozen=True, slots=True)
class SideGeoreference:
    """Georeference by side files: what they say, or with a raster's own tags."""

    crs: str | None = None
    """`EPSG:…` or WKT."""
    geotransform: GeoTransform | None = None

    def __bool__(self) -> bool:
        return self.crs is not None or self.geotransform is not None

    def to_json(self) -> list[Any]:
        """The georeference as JSON values."""
        return [self.crs, None if self.geotransform is None else list(self.geotransform)]

    @classmethod
    def from_json(cls, values: Any) -> Self:
        """The georeference that `to_json` wrote.

        Raises:
            TypeError, ValueError: it is none.
        """
        crs, geotransform = values
        if geotransform is None:
            return cls(crs)
        a, b, c, d, e, f = map(float, geotransform)
        return cls(crs, (a, b, c, d, e, f))
