"""What pictures are kept by: the stored content itself, not what somebody says of it."""

from aerotask.tiles.jobs import ThumbnailKind
from aerotask.tiles.renderer import RasterSource, RenderSource, look_digest, thumbnail_digest, tile_digest
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileIndex

PRIVATE = RenderSource("key of a private raster", "00ff")
CLAIMED = RenderSource("key of an artifact", "00ff")
STYLE = Style()
AT = TileIndex(3, 4, 2)


def as_raster(content: RenderSource) -> RasterSource:
    return RasterSource(source=content, drawn=content)


def test_a_content_that_claims_another_ones_hash_gets_none_of_its_pictures() -> None:
    assert look_digest(as_raster(PRIVATE), STYLE) != look_digest(as_raster(CLAIMED), STYLE)
    assert tile_digest(as_raster(PRIVATE), STYLE, AT, size_px=256) != tile_digest(
        as_raster(CLAIMED), STYLE, AT, size_px=256
    )
    assert thumbnail_digest(PRIVATE, ThumbnailKind.PICTURE, size_px=64) != thumbnail_digest(
        CLAIMED, ThumbnailKind.PICTURE, size_px=64
    )


def test_the_same_content_has_the_same_picture_wherever_it_is_shown() -> None:
    again = RenderSource(PRIVATE.blob_key, PRIVATE.sha256)
    assert thumbnail_digest(again, ThumbnailKind.PICTURE, size_px=64) == thumbnail_digest(
        PRIVATE, ThumbnailKind.PICTURE, size_px=64
    )
