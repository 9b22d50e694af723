"""What pictures are kept by: the stored content itself, not what somebody says of it."""

from aerotask.tiles.jobs import Subject
from aerotask.tiles.renderer import Content, Raster, look_digest, thumbnail_digest, tile_digest
from aerotask.tiles.style import Style
from aerotask.tiles.tile_matrix import TileAt

PRIVATE = Content("key of a private raster", "00ff")
CLAIMED = Content("key of an artifact", "00ff")
STYLE = Style()
AT = TileAt(3, 4, 2)


def as_raster(content: Content) -> Raster:
    return Raster(source=content, drawn=content)


def test_a_content_that_claims_another_ones_hash_gets_none_of_its_pictures() -> None:
    assert look_digest(as_raster(PRIVATE), STYLE) != look_digest(as_raster(CLAIMED), STYLE)
    assert tile_digest(as_raster(PRIVATE), STYLE, AT, size_px=256) != tile_digest(
        as_raster(CLAIMED), STYLE, AT, size_px=256
    )
    assert thumbnail_digest(PRIVATE, Subject.PICTURE, size_px=64) != thumbnail_digest(
        CLAIMED, Subject.PICTURE, size_px=64
    )


def test_the_same_content_has_the_same_picture_wherever_it_is_shown() -> None:
    again = Content(PRIVATE.blob_key, PRIVATE.sha256)
    assert thumbnail_digest(again, Subject.PICTURE, size_px=64) == thumbnail_digest(
        PRIVATE, Subject.PICTURE, size_px=64
    )
