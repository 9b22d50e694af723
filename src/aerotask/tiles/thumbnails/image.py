"""Thumbnails of 8-bit images by Pillow: decoded at reduced size where possible, and rotated by EXIF."""

from __future__ import annotations

import struct
from io import BytesIO
from pathlib import Path

from PIL import Image, ImageOps

from aerotask.domain.errors import InvalidInput

MEDIA_TYPE = "image/webp"
MAX_PIXELS = 175_000_000
"""Below the number at which Pillow refuses to open an image."""
WEBP_QUALITY = 80
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
_BYTE_MODES = frozenset({"1", "L", "LA", "P", "PA", "RGB", "RGBA", "CMYK", "YCbCr"})
_INDEXED_MODES = frozenset({"1", "P", "PA"})
_SIGNATURES = (b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF", b"GIF8", b"BM")
# Exceptions of Pillow for damaged files.
_DAMAGE_ERRORS = (OSError, SyntaxError, ValueError, EOFError, struct.error)


def is_photo(path: Path) -> bool:
    """Whether Pillow can draw the file; images of more than 8 bits are left to GDAL."""
    with path.open("rb") as content:
        start = content.read(16)
    if not start.startswith(_SIGNATURES):
        return False
    try:
        with Image.open(path, formats=FORMATS) as image:
            return image.mode in _BYTE_MODES
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except _DAMAGE_ERRORS as error:
        raise _unreadable() from error


def draw_photo(path: Path, *, size_px: int) -> bytes:
    """Thumbnail as WebP, its longer side at most `size_px`, rotated by EXIF.

    Raises:
        InvalidInput: the image is damaged (`damaged-raster`) or too large (`raster-too-large`).
    """
    try:
        with Image.open(path, formats=FORMATS) as image:
            _check_size(image)
            image.draft("RGB", (2 * size_px, 2 * size_px))
            small = image.convert("RGBA") if image.mode in _INDEXED_MODES else image
            small.thumbnail((size_px, size_px))
            upright = ImageOps.exif_transpose(small)
            return encode_webp(upright)
    except InvalidInput:
        raise
    except Image.DecompressionBombError as error:
        raise _too_large() from error
    except _DAMAGE_ERRORS as error:
        raise _unreadable() from error


def _check_size(image: Image.Image) -> None:
    if image.width * image.height > MAX_PIXELS:
        raise _too_large()


def _too_large() -> InvalidInput:
    return InvalidInput(
        f"The image declares more than the {MAX_PIXELS / 1e6:,.0f} million pixels from which thumbnails are made.",
        code="raster-too-large",
    )


def encode_webp(image: Image.Image) -> bytes:
    """The image as WebP, with its transparency."""
    has_alpha = image.mode in {"RGBA", "LA", "PA"} or "transparency" in image.info
    encoded = BytesIO()
    image.convert("RGBA" if has_alpha else "RGB").save(encoded, "WEBP", quality=WEBP_QUALITY, method=3)
    return encoded.getvalue()


def _unreadable() -> InvalidInput:
    return InvalidInput(
        "The image can't be read: the file is damaged or incomplete. Upload it again.",
        code="damaged-raster",
    )
