"""Levels of a COG: the shape of its tiles, and the overviews that it has, planned without pixels."""

from __future__ import annotations

from aerotask.raster.profile import RasterProfile
from aerotask.raster.tiff.codec import tile_shape
from aerotask.raster.windows import Shape

TILE_PX = 512
TILE_BYTES = 1024 * 1024
"""Maximum size of a tile with all its bands, since a reader decodes whole tiles; with more, tiles have fewer pixels."""


def cog_tile_shape(shape_yx: Shape, bytes_per_px: int) -> Shape:
    """Rows and columns of the tiles of a COG of that shape."""
    return tile_shape(shape_yx, tile_px=TILE_PX, bytes_per_px=bytes_per_px, max_bytes=TILE_BYTES)


def overview_shapes(shape_yx: Shape, tile_yx: Shape) -> list[Shape]:
    """Rows and columns of each overview, the largest first; none for an image that fits into one tile.

    An image that is down to one row or column isn't halved further, since readers derive the factor from either side.
    """
    shapes: list[Shape] = []
    rows, cols = shape_yx
    while (rows > tile_yx[0] or cols > tile_yx[1]) and min(rows, cols) > 1:
        rows, cols = -(-rows // 2), -(-cols // 2)
        shapes.append((rows, cols))
    return shapes


def missing_overviews(profile: RasterProfile) -> list[Shape]:
    """Rows and columns of the overviews that the raster's COG has beyond the raster's own, the largest first."""
    whole = profile.height, profile.width
    smallest = whole
    if profile.overview_sizes:
        cols, rows = profile.overview_sizes[-1]
        smallest = rows, cols
    bytes_per_px = sum(band.value_bytes for band in profile.bands)
    return overview_shapes(smallest, cog_tile_shape(whole, bytes_per_px))
