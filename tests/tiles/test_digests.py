"""Cache keys of images: the blob key counts, not the claimed SHA-256."""

from aerotask.raster.georeference.side_georeference import SideGeoreference
from aerotask.tiles.jobs import ThumbnailKind
from aerotask.tiles.renderer import (
    RasterSource,
    RenderSource,
    render_info_digest,
    thumbnail_digest,
    tile_digest,
)
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

PRIVATE = RenderSource("key of a private raster", "00ff")
CLAIMED = RenderSource("key of an artifact", "00ff")
STYLE = Style()
TILE = TileIndex(3, 4, 2)


def as_raster(content: RenderSource) -> RasterSource:
    return RasterSource(content, content)


def test_a_content_that_claims_the_hash_of_another_gets_none_of_its_images() -> None:
    assert render_info_digest(as_raster(PRIVATE), STYLE) != render_info_digest(as_raster(CLAIMED), STYLE)
    assert tile_digest(as_raster(PRIVATE), STYLE, TILE, size_px=256) != tile_digest(
        as_raster(CLAIMED), STYLE, TILE, size_px=256
    )
    assert thumbnail_digest(as_raster(PRIVATE), ThumbnailKind.PICTURE, size_px=64) != thumbnail_digest(
        as_raster(CLAIMED), ThumbnailKind.PICTURE, size_px=64
    )


def test_the_same_content_has_the_same_digest() -> None:
    again = RenderSource(PRIVATE.blob_key, PRIVATE.sha256)
    assert thumbnail_digest(as_raster(again), ThumbnailKind.PICTURE, size_px=64) == thumbnail_digest(
        as_raster(PRIVATE), ThumbnailKind.PICTURE, size_px=64
    )


def test_a_raster_with_another_world_file_has_other_tiles() -> None:
    one, other = (
        RasterSource(PRIVATE, PRIVATE, side=SideGeoreference("EPSG:32632", (x, 1.0, 0.0, 0.0, 0.0, -1.0)))
        for x in (5.0, 6.0)
    )
    for plain in (as_raster(PRIVATE), other):
        assert tile_digest(one, STYLE, TILE, size_px=256) != tile_digest(plain, STYLE, TILE, size_px=256)
        assert render_info_digest(one, STYLE) != render_info_digest(plain, STYLE)
