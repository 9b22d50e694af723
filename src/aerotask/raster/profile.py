"""Raster profile: the facts of a header that the index stores and that parameters are checked against."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

from aerotask.raster.georeference.side_georeference import SideGeoreference

MAX_METADATA_CHARS = 4096

Scaling = tuple[float, float]
"""Scale and offset of a band: the physical value is number · scale + offset."""


GeoreferencedBy = Literal["control-points", "rpc", "side-files"]


@dataclass(frozen=True, slots=True)
class BandProfile:
    """Profile of a band: pixel type, description, colour interpretation and nodata value."""

    dtype: str
    description: str | None
    colour: str
    """GDAL's colour interpretation in lower case, such as `red`, `alpha` or `undefined`."""
    nodata: float | None
    scale: float = 1.0
    offset: float = 0.0
    """The physical value is number · `scale` + `offset`."""

    @property
    def is_scaled(self) -> bool:
        """Whether the physical values differ from the numbers in the file."""
        return (self.scale, self.offset) != (1, 0)

    @property
    def value_bytes(self) -> int:
        """The size of one value; 1 for a type without digits in its name."""
        bits = "".join(filter(str.isdigit, self.dtype))
        return int(bits or 8) // 8


@dataclass(frozen=True, slots=True)
class RasterProfile:
    """Profile of a raster, from its header; sizes are `(width, height)` as in the rest of the index."""

    width: int
    height: int
    bands: tuple[BandProfile, ...]
    crs: str | None
    """`EPSG:…` where the CRS has a code, else WKT."""
    geotransform: tuple[float, float, float, float, float, float] | None
    """In GDAL's order: x origin, pixel width, row rotation, y origin, column rotation, pixel height."""
    block_size: tuple[int, int]
    overview_sizes: tuple[tuple[int, int], ...]
    metadata_text: str
    """Metadata of the file's origin (camera, software, description), for recognising sensors."""
    pages: int = 1
    """Images in the file, without overviews and masks; this is the profile of the first."""
    georeferenced_by: GeoreferencedBy | None = None
    """Source of the georeference, if that isn't the raster's own affine transform alone."""

    @property
    def count(self) -> int:
        """The number of bands."""
        return len(self.bands)

    @property
    def decoded_bytes(self) -> int:
        """The size of all pixels."""
        return self.width * self.height * sum(band.value_bytes for band in self.bands)

    @property
    def data_bands(self) -> tuple[int, ...]:
        """The bands (counted from 1) that hold values rather than transparency."""
        return tuple(number for number, band in enumerate(self.bands, start=1) if band.colour != "alpha")

    @property
    def alpha_band(self) -> int | None:
        """The band (counted from 1) that holds transparency."""
        return next((number for number, band in enumerate(self.bands, 1) if band.colour == "alpha"), None)

    def to_properties(self) -> dict[str, Any]:
        """The profile as JSON values, as stored in the index."""
        return {
            "width": self.width,
            "height": self.height,
            "bands": [
                {
                    "type": band.dtype,
                    "description": band.description,
                    "colorInterp": band.colour,
                    "nodata": _number_to_json(band.nodata),
                    **({"scale": band.scale, "offset": band.offset} if band.is_scaled else {}),
                }
                for band in self.bands
            ],
            "crs": self.crs,
            "geotransform": None if self.geotransform is None else list(self.geotransform),
            "blockSize": list(self.block_size),
            "overviews": [list(size) for size in self.overview_sizes],
            "metadataText": self.metadata_text,
            **({"pages": self.pages} if self.pages > 1 else {}),
            **({"georeferencedBy": self.georeferenced_by} if self.georeferenced_by else {}),
        }

    @property
    def page_warning(self) -> str | None:
        """Warning that a tool uses the first page only; None for a file of one page."""
        return f"The file has {self.pages} pages; only the first is used." if self.pages > 1 else None

    @property
    def lacks_transform(self) -> str | None:
        """The reason why a raster with a known position has no affine transform; None for any other."""
        match self.georeferenced_by:
            case "control-points":
                return _ONLY.format("control points", "gdalwarp -tps")
            case "rpc":
                return _ONLY.format(
                    "rational polynomial coefficients (RPC)", "gdalwarp -rpc, best with a DEM"
                )
            case _:
                return None

    @property
    def side_georeference(self) -> SideGeoreference | None:
        """The georeference, if side files give it."""
        by_side_files = self.georeferenced_by == "side-files"
        return SideGeoreference(self.crs, self.geotransform) if by_side_files else None

    @classmethod
    def from_properties(cls, properties: Mapping[str, Any]) -> RasterProfile | None:
        """The profile that `to_properties` wrote, or None if these are not a raster's properties."""
        try:
            return cls._parsed(properties)
        except (KeyError, TypeError, ValueError):
            return None

    @classmethod
    def _parsed(cls, properties: Mapping[str, Any]) -> RasterProfile:
        transform = properties["geotransform"]
        return cls(
            width=int(properties["width"]),
            height=int(properties["height"]),
            bands=tuple(
                BandProfile(
                    str(band["type"]),
                    band["description"],
                    str(band["colorInterp"]),
                    _number_from_json(band["nodata"]),
                    float(band.get("scale", 1)),
                    float(band.get("offset", 0)),
                )
                for band in properties["bands"]
            ),
            crs=properties["crs"],
            geotransform=None if transform is None else _six(transform),
            block_size=_pair(properties["blockSize"]),
            overview_sizes=tuple(_pair(size) for size in properties["overviews"]),
            metadata_text=str(properties["metadataText"]),
            pages=int(properties.get("pages", 1)),
            georeferenced_by=properties.get("georeferencedBy"),
        )


_ONLY = "is georeferenced by {} only: warp it to a grid first ({}), and use that"


def _pair(values: Any) -> tuple[int, int]:
    first, second = values
    return int(first), int(second)


def _six(values: Any) -> tuple[float, float, float, float, float, float]:
    a, b, c, d, e, f = map(float, values)
    return a, b, c, d, e, f


def _number_to_json(value: float | None) -> float | str | None:
    """The number, or a string that `float` reads back: JSON has no NaN and no infinity."""
    return value if value is None or math.isfinite(value) else str(value)


def _number_from_json(value: float | str | None) -> float | None:
    return None if value is None else float(value)
