"""Thumbnails of images that Pillow refuses: too large is not damaged."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from aerotask.domain.errors import InvalidInput
from aerotask.tiles.thumbnails.image import draw_photo, is_photo


def chunk(kind: bytes, content: bytes) -> bytes:
    """A chunk of a PNG."""
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def declared(path: Path, side: int) -> Path:
    """A PNG that declares a size and has no pixels."""
    head = struct.pack(">IIBBBBB", side, side, 8, 0, 0, 0, 0)
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", b"") + chunk(b"IEND", b""))
    return path


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [13_300, 20_000, 60_000])
def test_an_image_with_too_many_pixels_is_not_called_damaged(tmp_path: Path, side: int) -> None:
    path = declared(tmp_path / "a.png", side)
    with pytest.raises(InvalidInput) as refused:
        _ = is_photo(path) and draw_photo(path, size_px=64)
    assert (refused.value.code, refused.value.message) == (
        "raster-too-large",
        "The image declares more than the 175 million pixels from which thumbnails are made.",
    )


def test_a_cut_image_is_called_damaged(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 255, (90, 90), "uint8")).save(path)
    path.write_bytes(path.read_bytes()[:-3000])
    with pytest.raises(InvalidInput) as refused:
        draw_photo(path, size_px=64)
    assert (refused.value.code, refused.value.message) == (
        "damaged-raster",
        "The image can't be read: the file is damaged or incomplete. Upload it again.",
    )
